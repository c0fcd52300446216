"""Results in other formats: a copy for people and tools that don't read Parquet. A part at a time, never all rows."""

import contextlib
import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow.parquet as pq

from batchrun.errors import JobError
from batchrun.ledger.durable import SHARED_MODE, replacing
from batchrun.ledger.parts import read_groups, read_schema
from batchrun.ledger.store import Stored, is_object_url, object_store
from batchrun.report import plain


def export(files: Sequence[Stored], target: str) -> int:
    """Write the results in `files` to `target`; its ending chooses the format. Returns the rows. Raises JobError."""
    return write(read_schema(files[0]), _tables(files), target)


def write(schema: Any, tables: Iterable[Any], target: str, *, spreadsheet: bool = False) -> int:
    """Write pyarrow Tables of one schema to `target`, as `export` does. With `spreadsheet`, CSV is made for programs that
    take a cell's text for a formula, and know UTF-8 by its mark. Raises JobError.
    """
    writers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _sheet if spreadsheet else _csv}
    in_bucket = is_object_url(target)
    writer = writers.get(PurePosixPath(urlsplit(target).path if in_bucket else target).suffix.lower())
    if writer is None:
        raise JobError(f"{target}: unknown format; end the name in .parquet, .jsonl or .csv")
    if spreadsheet and writer is not _sheet:
        raise JobError(f"{target}: --spreadsheet is about CSV; end the name in .csv")
    with _uploaded(target) if in_bucket else _placed(Path(target)) as temporary:
        return writer(schema, tables, temporary)


def _placed(path: Path) -> contextlib.AbstractContextManager[Path]:
    """A local file, there once it is whole."""
    if not path.parent.is_dir():
        raise JobError(f"{path}: the folder {path.parent} does not exist")
    return replacing(path, SHARED_MODE)


@contextlib.contextmanager
def _uploaded(url: str) -> Iterator[Path]:
    """A file in a bucket, made here and put there whole; the URL may have a query, as a run's may."""
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="batchrun-export-") as scratch:
        store = object_store(urlunsplit(parts._replace(path=folder)), Path(scratch))
        with store.replacing(unquote(name)) as temporary:
            yield temporary


def _tables(files: Sequence[Stored]) -> Iterator[Any]:
    for file in files:
        yield from read_groups(file)


def _parquet(schema: Any, tables: Iterable[Any], target: Path) -> int:
    rows = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _jsonl(_schema: Any, tables: Iterable[Any], target: Path) -> int:
    count = 0
    with target.open("wb") as out:
        for table in tables:
            for row in plain.rows(table):
                out.write(plain.line(row))
                count += 1
    return count


def _csv(schema: Any, tables: Iterable[Any], target: Path) -> int:
    return _cells(schema, tables, target, plain.cell, "utf-8")


def _sheet(schema: Any, tables: Iterable[Any], target: Path) -> int:
    return _cells(schema, tables, target, plain.harmless, "utf-8-sig")


def _cells(schema: Any, tables: Iterable[Any], target: Path, cell: Callable[[Any], Any], encoding: str) -> int:
    count = 0
    with target.open("w", newline="", encoding=encoding) as out:
        writer = csv.writer(out)
        writer.writerow(map(cell, schema.names))
        for table in tables:
            for row in plain.rows(table):
                writer.writerow(map(cell, row.values()))
                count += 1
    return count
