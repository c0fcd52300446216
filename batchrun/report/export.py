"""Results in other formats: a copy for people and tools that don't read Parquet. A part at a time, never all rows."""

import csv
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from batchrun.errors import JobError
from batchrun.ledger.durable import replacing


def export(files: Sequence[Path], target: str) -> int:
    """Write the results in `files` to `target`; its ending chooses the format. Returns the rows. Raises JobError."""
    path = Path(target)
    writers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise JobError(f"{target}: unknown format; end the name in .parquet, .jsonl or .csv")
    if not path.parent.is_dir():
        raise JobError(f"{target}: the folder {path.parent} does not exist")
    with replacing(path) as temporary:
        return writer(files, temporary)


def _tables(files: Sequence[Path]) -> Iterator[Any]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            for group in range(opened.num_row_groups):
                yield opened.read_row_group(group)


def _parquet(files: Sequence[Path], target: Path) -> int:
    rows = 0
    with pq.ParquetWriter(target, pq.read_schema(files[0]), compression="zstd") as writer:
        for table in _tables(files):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _jsonl(files: Sequence[Path], target: Path) -> int:
    rows = 0
    with target.open("wb") as out:
        for table in _tables(files):
            for record in table.to_pylist():
                out.write(msgspec.json.encode(record) + b"\n")
                rows += 1
    return rows


def _csv(files: Sequence[Path], target: Path) -> int:
    rows = 0
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(pq.read_schema(files[0]).names)
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
