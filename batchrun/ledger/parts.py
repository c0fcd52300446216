"""Sealed shards as Parquet parts, and the merge of parts into results.parquet, one row group a shard (contract.md §6).

Results come priced. How a file is written and opened is sealed.py's.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import LedgerError
from batchrun.ledger import sealed, vectors
from batchrun.ledger.account import Account
from batchrun.ledger.bills import Share
from batchrun.ledger.footer import Group, account_of, group_of, groups_in, metadata_of, tally_of
from batchrun.ledger.layout import (
    COST,
    LATER,
    RESPONSE,
    RESULT_SCHEMA,
    Layout,
    Prompts,
    completed,
    result_names,
)
from batchrun.ledger.store import Stored
from batchrun.ledger.tally import Tally
from batchrun.money import pico
from batchrun.records import Result


def write_part(
    target: Stored,
    layout: Layout,
    inputs: Any,
    per_row: int,
    results: list[Result],
    account: Account | None = None,
    prompts: Prompts | None = None,
) -> None:
    """Seal a shard: `inputs` is its input table, `results` are sorted and complete, `per_row` of them a row, `account` is
    its journal's, `prompts` are what was sent.
    """
    if inputs.num_columns and len(results) != inputs.num_rows * per_row:  # a table without columns has no rows either
        raise LedgerError(f"{target}: {len(results)} results for {inputs.num_rows * per_row} requests; not sealed")
    if per_row > 1:
        inputs = inputs.take(pa.array([row for row in range(inputs.num_rows) for _ in range(per_row)], pa.int64()))
    sealed.publish(target, layout.table(inputs, results, prompts), group_of(results, account).metadata())


def unsealed(
    layout: Layout,
    inputs: Any | None,
    rows: Sequence[int],
    results: Sequence[Result],
    prompts: Prompts | None = None,
) -> Any:
    """The table that some results of an open shard would be in its part. `inputs` is its input table, `rows` are the input's
    rows in it, `prompts` what was sent; without them their columns are null.
    """
    if inputs is None:
        inputs = pa.table([pa.nulls(len(results), field.type) for field in layout.inputs], schema=layout.inputs)
    elif inputs.num_columns:
        places = {row: place for place, row in enumerate(rows)}
        inputs = inputs.take(pa.array([places[one.row] for one in results], pa.int64()))
    return layout.table(inputs, results, prompts)


def read_tally(file: Stored) -> Tally:
    """The numbers of a part, or of a merged file: from its footer, or counted where that has none (of older versions)."""
    with sealed.readable(file), file.opened() as source:
        footer = pq.read_metadata(source)
        tally = tally_of(groups_in(footer.metadata, footer.num_row_groups))
    if tally is None:
        tally = Tally()
        for result in read_results(file, whole=False):
            tally.add(result)
    return tally


def read_account(file: Stored) -> Account:
    """What the attempts behind a part, or a merged file, have cost and may have cost: from its footer, or of its results
    where that has none (of older versions, which kept no bounds of what was lost).
    """
    with sealed.readable(file), file.opened() as source:
        footer = pq.read_metadata(source)
        account = account_of(groups_in(footer.metadata, footer.num_row_groups))
    if account is None:
        account = Account()
        for result in read_results(file, whole=False):
            account = account.plus(
                Account(
                    spent=result.cost or 0,
                    unpriced=int(result.cost is None and bool(result.total_tokens)),
                    unbounded=result.unconfirmed_attempts,
                )
            )
    return account


def sums(files: Iterable[Stored], names: Sequence[str]) -> dict[str, int]:
    """The sums of these columns over results, as they stand there; dollars are summed in pico-dollars."""
    total = dict.fromkeys(names, 0)
    for file in files:
        with sealed.open_checked(file) as opened:
            for batch in opened.iter_batches(1 << 16, columns=list(names)):
                for name in names:
                    values = [value for value in batch.column(name).to_pylist() if value is not None]
                    total[name] += sum(map(pico, values)) if name == COST else sum(values)
    return total


def unused(parts: Iterable[Stored]) -> frozenset[str]:
    """The columns of LATER in which no part has a value: a merged file goes without them."""
    left = set(LATER)
    for part in parts:
        with sealed.open_checked(part) as opened:
            left -= {name for name in left if _has_values(opened, name)}
    return frozenset(left)


def merge(parts: Iterable[Stored], target: Stored, layout: Layout) -> None:
    """Write parts, in order, as one file with one row group a part. Columns that `layout` goes without are left out."""
    groups: list[Group] = []

    def tables() -> Iterator[Any]:
        for part in parts:
            table = sealed.read_whole(part)
            groups.extend(groups_in(table.schema.metadata, 1))
            yield table.drop_columns(list(layout.without))

    found = tables()
    table = next(found, layout.schema.empty_table())
    # a part's own types: those of a dictionary's indices are Parquet's choice
    with sealed.writer(target, table.schema.with_metadata(layout.schema.metadata)) as writer:
        while table is not None:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            table = next(found, None)
        writer.add_key_value_metadata(metadata_of(groups))


def split(merged: Stored, names: Iterable[Stored]) -> None:
    """Undo `merge`: each row group as a part of its own, with all columns that a part has."""
    with sealed.open_checked(merged) as opened:
        groups = groups_in(opened.metadata.metadata, opened.num_row_groups)
        for number, target in enumerate(names):
            sealed.publish(target, completed(sealed.group(opened, number)), groups[number].metadata())


def read_table(files: Sequence[Stored]) -> Any:
    """All columns of the results, as one pyarrow Table."""
    whole = joined([sealed.read_whole(file) for file in files])
    return whole.replace_schema_metadata(sealed.bare(whole.schema).metadata)


def joined(tables: Sequence[Any]) -> Any:
    """Tables of results below each other; a column that one lacks is null there. Of those of LATER the empty ones go."""
    if not tables:
        return RESULT_SCHEMA.empty_table().drop_columns(list(LATER))
    whole = pa.concat_tables(tables, promote_options="permissive")
    present = LATER & set(result_names(whole.column_names))
    return whole.drop_columns([name for name in present if whole[name].null_count == whole.num_rows])


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
        present = [name for name in RESULT_SCHEMA.names if name in kept]
        shares = _shares(opened)
        if whole and RESPONSE in kept:
            present.append(RESPONSE)
        embedded = whole and set(vectors.NAMES) <= set(kept)
        left = opened.metadata.num_rows
        for batch in opened.iter_batches(1024, columns=[*present, *(vectors.NAMES if embedded else ())]):
            columns = {name: _values(batch.column(name)) for name in present}
            columns["cost"] = [None if paid is None else pico(paid) for paid in columns.pop(COST)]
            kept_of = list(itertools.islice(shares, batch.num_rows))
            columns["input_cost"] = [share for share, _source in kept_of]
            columns["price_source"] = [source for _share, source in kept_of]
            if embedded:
                columns["embeddings"] = vectors.unpack(*map(batch.column, vectors.NAMES))
            left -= batch.num_rows
            for row in zip(*columns.values(), strict=True):
                yield Result(**dict(zip(columns, row, strict=True)))
        if left:
            raise pa.ArrowInvalid(f"{left} of its rows are missing")


def _shares(opened: Any) -> Iterator[Share]:
    """What is kept of each result beside its columns, in order."""
    footer = opened.metadata
    for number, group in enumerate(groups_in(footer.metadata, footer.num_row_groups)):
        yield from group.shares(footer.row_group(number).num_rows)


def _has_values(opened: Any, name: str) -> bool:
    if name not in result_names(opened.schema_arrow.names):
        return False
    return any(batch.column(0).null_count < batch.num_rows for batch in opened.iter_batches(columns=[name]))


def _values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values
