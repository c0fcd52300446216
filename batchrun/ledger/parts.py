"""Sealed shards as Parquet parts, and the merge of parts into results.parquet, one row group a shard (contract.md §6).

The owner of pyarrow on the way out. Results come judged: what a result costs is asked of a function.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import LedgerError
from batchrun.ledger.durable import replacing
from batchrun.records import Result

RESULT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("variant", pa.string()),
        ("sample", pa.int32()),
        ("status", pa.string()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("refusal", pa.string()),
        ("reasoning", pa.string()),
        ("tool_calls", pa.string()),
        ("model", pa.string()),
        ("endpoint", pa.string()),
        ("response_id", pa.string()),
        ("system_fingerprint", pa.string()),
        ("created", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("usage_source", pa.string()),
        ("cost_usd", pa.float64()),
        ("attempts", pa.int32()),
        ("unconfirmed_attempts", pa.int32()),
        ("latency_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("error_kind", pa.string()),
        ("error_status", pa.int32()),
        ("error_message", pa.string()),
        ("request_hash", pa.string()),
    ]
)
_RAW = pa.field("response", pa.string())
_JUDGED = ("cost_usd",)


def result_schema(raw: bool) -> pa.Schema:
    """The columns of a result, in order; the raw body only where the job keeps it."""
    return RESULT_SCHEMA.append(_RAW) if raw else RESULT_SCHEMA


def input_names(columns: Sequence[str]) -> list[str]:
    """The names under which input columns are stored: one that collides with a result's gets the prefix `input_`."""
    taken = {*RESULT_SCHEMA.names, _RAW.name}
    names: list[str] = []
    for column in columns:
        name = column
        while name in taken or (name != column and name in columns):
            name = f"input_{name}"
        taken.add(name)
        names.append(name)
    return names


def write_part(
    path: Path, inputs: Any, per_row: int, results: list[Result], cost_usd: Callable[[Result], float | None], raw: bool
) -> None:
    """Seal a shard: `inputs` is its input table, `results` are sorted and complete, `per_row` of them a row."""
    schema = result_schema(raw)
    if len(results) != inputs.num_rows * per_row:
        raise LedgerError(f"{path}: {len(results)} results for {inputs.num_rows * per_row} requests; not sealed")
    if per_row > 1:
        inputs = inputs.take(pa.array([row for row in range(inputs.num_rows) for _ in range(per_row)], pa.int64()))
    columns = list(inputs.columns)
    for field in schema:
        values = (
            [cost_usd(result) for result in results]
            if field.name in _JUDGED
            else [getattr(result, field.name) for result in results]
        )
        columns.append(pa.array(values, field.type))
    names = [*input_names(inputs.column_names), *schema.names]
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, names), temporary, compression="zstd", row_group_size=max(1, len(results)))


def merge(parts: Sequence[Path], target: Path, empty: Any, raw: bool) -> None:
    """Write parts, in order, as one file with one row group a part. `empty` is the input schema for a run of no rows."""
    with replacing(target) as temporary:
        if not parts:
            fields = [field.with_name(name) for name, field in zip(input_names(empty.names), empty, strict=True)]
            schema = pa.schema([*(field.remove_metadata() for field in fields), *result_schema(raw)])
            pq.write_table(schema.empty_table(), temporary, compression="zstd")
            return
        with _readable(parts[0]):
            schema = pq.read_schema(parts[0])
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for part in parts:
                table = _read(part)
                writer.write_table(table, row_group_size=max(1, table.num_rows))


def split(merged: Path, names: Sequence[Path]) -> None:
    """Undo `merge`: each row group as a part of its own."""
    with _readable(merged), pq.ParquetFile(merged) as opened:
        for group, path in enumerate(names):
            with replacing(path) as temporary:
                table = opened.read_row_group(group)
                pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, table.num_rows))


def read_table(files: Sequence[Path]) -> Any:
    """All columns of the results, as one pyarrow Table."""
    tables = [_read(path) for path in files]
    return pa.concat_tables(tables) if tables else RESULT_SCHEMA.empty_table()


def read_results(path: Path, raw: bool = True) -> Iterator[Result]:
    """The results in a part or a merged file, without their input columns, a row group at a time."""
    names = [name for name in result_schema(raw).names if name not in _JUDGED]
    with _readable(path), pq.ParquetFile(path) as opened:
        present = [name for name in names if name in opened.schema_arrow.names]
        for batch in opened.iter_batches(1024, columns=present):
            columns = {name: _values(batch.column(name)) for name in present}
            for row in zip(*columns.values(), strict=True):
                yield Result(**dict(zip(columns, row, strict=True)))


def _values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _read(part: Path) -> Any:
    with _readable(part):
        return pq.read_table(part, use_threads=False)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Damage to a sealed file is a LedgerError that names it and the way on."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(
            f"{path}: this sealed file cannot be read: {error}. Set it aside, under another name, and run the same "
            "command again: what it holds is asked anew"
        ) from error


def count_results(path: Path) -> tuple[int, int]:
    """(ok, failed) of a part, reading one column."""
    with _readable(path):
        column = pq.read_table(path, columns=["status"], use_threads=False)["status"].to_pylist()
    ok = column.count("ok")
    return ok, len(column) - ok
