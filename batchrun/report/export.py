"""Results in other formats: a copy for people and tools that don't read Parquet. A part at a time, never all rows."""

import csv
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from batchrun.errors import JobError
from batchrun.ledger.durable import SHARED_MODE, replacing
from batchrun.ledger.parts import read_groups, read_schema
from batchrun.ledger.store import Stored


def export(files: Sequence[Stored], target: str) -> int:
    """Write the results in `files` to `target`; its ending chooses the format. Returns the rows. Raises JobError."""
    path = Path(target)
    writers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise JobError(f"{target}: unknown format; end the name in .parquet, .jsonl or .csv")
    if not path.parent.is_dir():
        raise JobError(f"{target}: the folder {path.parent} does not exist")
    with replacing(path, SHARED_MODE) as temporary:
        return writer(files, temporary)


def _tables(files: Sequence[Stored]) -> Iterator[Any]:
    for file in files:
        yield from read_groups(file)


def _schema(files: Sequence[Stored]) -> Any:
    return read_schema(files[0]).remove_metadata()


def _parquet(files: Sequence[Stored], target: Path) -> int:
    rows = 0
    with pq.ParquetWriter(target, _schema(files), compression="zstd") as writer:
        for table in _tables(files):
            writer.write_table(table.replace_schema_metadata(None))
            rows += table.num_rows
    return rows


def _jsonl(files: Sequence[Stored], target: Path) -> int:
    rows = 0
    with target.open("wb") as out:
        for table in _tables(files):
            for record in table.to_pylist():
                out.write(msgspec.json.encode(record) + b"\n")
                rows += 1
    return rows


def _csv(files: Sequence[Stored], target: Path) -> int:
    rows = 0
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(_schema(files).names)
        for table in _tables(files):
            for record in table.to_pylist():
                writer.writerow([_cell(value) for value in record.values()])
                rows += 1
    return rows


def _cell(value: Any) -> Any:
    """A cell of CSV: nested values as JSON, times as RFC 3339, nothing for null."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value
