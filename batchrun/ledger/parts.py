"""Sealed shards as Parquet parts, and the merge of parts into results.parquet, one row group a shard (contract.md §6).

Results come judged: what a result costs is asked of a function. How a file is written and opened is sealed.py's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import LedgerError
from batchrun.ledger import sealed, vectors
from batchrun.ledger.layout import JUDGED, RESPONSE, RESULT_SCHEMA, Layout, result_names
from batchrun.ledger.store import Stored
from batchrun.records import Result

_TALLY = b"batchrun.tally"


class Tally(msgspec.Struct):
    """What a part holds, in a few numbers: kept in its footer, so that `status` need not read it.

    Money is in pico-dollars. `since` and `until` are when its first request was sent and its last answer was whole, in
    microseconds since the epoch; None where nothing was sent.
    """

    ok: int = 0
    failed: dict[str, int] = {}
    cost: int = 0
    unpriced: int = 0
    since: int | None = None
    until: int | None = None

    def add(self, result: Result, cost: int | None) -> None:
        """Count one result; `cost` is what it is known to have cost."""
        if result.status == "ok":
            self.ok += 1
        else:
            kind = result.error_kind or "unknown"
            self.failed[kind] = self.failed.get(kind, 0) + 1
        if cost is not None:
            self.cost += cost
        elif result.total_tokens:
            self.unpriced += 1
        if result.started_at is not None:
            until = result.started_at + int((result.latency_s or 0.0) * 1e6)
            self.since = result.started_at if self.since is None else min(self.since, result.started_at)
            self.until = until if self.until is None else max(self.until, until)


def write_part(
    target: Stored,
    layout: Layout,
    inputs: Any,
    per_row: int,
    results: list[Result],
    cost: Callable[[Result], int | None],
    usd: Callable[[int], float],
) -> None:
    """Seal a shard: `inputs` is its input table, `results` are sorted and complete, `per_row` of them a row. `cost`
    prices a result in pico-dollars, `usd` turns those into dollars.
    """
    if inputs.num_columns and len(results) != inputs.num_rows * per_row:  # a table without columns has no rows either
        raise LedgerError(f"{target}: {len(results)} results for {inputs.num_rows * per_row} requests; not sealed")
    if per_row > 1:
        inputs = inputs.take(pa.array([row for row in range(inputs.num_rows) for _ in range(per_row)], pa.int64()))
    costs = [cost(result) for result in results]
    tally = Tally()
    for result, paid in zip(results, costs, strict=True):
        tally.add(result, paid)
    table = layout.table(inputs, results, {"cost_usd": [None if paid is None else usd(paid) for paid in costs]})
    sealed.publish(target, table, {_TALLY: msgspec.json.encode(tally)})


def unsealed(
    layout: Layout,
    inputs: Any | None,
    first: int,
    results: Sequence[Result],
    cost: Callable[[Result], int | None],
    usd: Callable[[int], float],
) -> Any:
    """The table that some results of an open shard would be in its part. `inputs` is its input table, whose first row is the
    input's row `first`; without it the input's columns are null.
    """
    if inputs is None:
        inputs = pa.table([pa.nulls(len(results), field.type) for field in layout.inputs], schema=layout.inputs)
    elif inputs.num_columns:
        inputs = inputs.take(pa.array([one.row - first for one in results], pa.int64()))
    costs = [cost(one) for one in results]
    return layout.table(inputs, results, {"cost_usd": [None if paid is None else usd(paid) for paid in costs]})


def read_tally(part: Stored, cost: Callable[[Result], int | None]) -> Tally:
    """The numbers of a part: from its footer, or counted where it has none (parts cut out of a merged file)."""
    with sealed.readable(part), part.opened() as source:
        kept = (pq.read_schema(source).metadata or {}).get(_TALLY)
    if kept is not None:
        return msgspec.json.decode(kept, type=Tally)
    tally = Tally()
    for result in read_results(part, whole=False):
        tally.add(result, cost(result))
    return tally


def failures(file: Stored) -> dict[str, int]:
    """How many results failed, by kind; reads two columns."""
    import pyarrow.compute as pc  # late: it takes a while to load, and hardly anybody needs it

    with sealed.open_checked(file) as opened:
        table = opened.read(columns=["status", "error_kind"], use_threads=False)
    kinds = table["error_kind"].filter(pc.not_equal(table["status"], "ok")).fill_null("unknown")
    return {one["values"].as_py(): one["counts"].as_py() for one in kinds.value_counts()}


def merge(parts: Iterable[Stored], target: Stored, layout: Layout) -> None:
    """Write parts, in order, as one file with one row group a part."""
    tables = (sealed.read_whole(part) for part in parts)
    table = next(tables, layout.schema.empty_table())
    # a part's own types: those of a dictionary's indices are Parquet's choice
    with sealed.writer(target, table.schema.with_metadata(layout.schema.metadata)) as writer:
        while table is not None:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            table = next(tables, None)


def split(merged: Stored, names: Iterable[Stored]) -> None:
    """Undo `merge`: each row group as a part of its own."""
    with sealed.open_checked(merged) as opened:
        for group, target in enumerate(names):
            sealed.publish(target, sealed.group(opened, group))


def read_table(files: Sequence[Stored]) -> Any:
    """All columns of the results, as one pyarrow Table."""
    whole = joined([sealed.read_whole(file) for file in files])
    return whole.replace_schema_metadata(sealed.bare(whole.schema).metadata)


def joined(tables: Sequence[Any]) -> Any:
    """Tables of results below each other; a column that one lacks is null there."""
    if not tables:
        return RESULT_SCHEMA.empty_table()
    return pa.concat_tables(tables, promote_options="permissive")


def read_schema(file: Stored) -> Any:
    """The arrow schema of a file of results."""
    with sealed.open_checked(file) as opened:
        return sealed.bare(opened.schema_arrow)


def read_groups(file: Stored) -> Iterator[Any]:
    """All columns, a table for each row group."""
    with sealed.open_checked(file) as opened:
        for group in range(opened.num_row_groups):
            yield sealed.group(opened, group)


def read_results(file: Stored, whole: bool = True) -> Iterator[Result]:
    """The results in a part or a merged file, without their input columns, a row group at a time.

    `whole` is for those that take results over: without it neither raw bodies nor vectors are read.
    """
    with sealed.open_checked(file) as opened:
        kept = result_names(opened.schema_arrow.names)
        present = [name for name in RESULT_SCHEMA.names if name in kept and name not in JUDGED]
        if whole and RESPONSE in kept:
            present.append(RESPONSE)
        embedded = whole and set(vectors.NAMES) <= set(kept)
        left = opened.metadata.num_rows
        for batch in opened.iter_batches(1024, columns=[*present, *(vectors.NAMES if embedded else ())]):
            columns = {name: _values(batch.column(name)) for name in present}
            if embedded:
                columns["embeddings"] = vectors.unpack(*map(batch.column, vectors.NAMES))
            left -= batch.num_rows
            for row in zip(*columns.values(), strict=True):
                yield Result(**dict(zip(columns, row, strict=True)))
        if left:
            raise pa.ArrowInvalid(f"{left} of its rows are missing")


def _values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values
