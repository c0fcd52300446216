"""Rows that a Python program holds: put into a file, so that they are read like any other input.

The file is named by what is in it, so that the same rows again go on with the run, and is removed with the Memory.
"""

import collections.abc
import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import JobError

_DIGEST_BYTES = 6
_FOLDER = "batchrun-rows-"
_BLOCK = 1 << 20


class Memory:
    """The file of some rows, at `path`: an arrow table or a data frame as Parquet, dicts as JSON Lines. Raises JobError."""

    def __init__(self, rows: Any) -> None:
        folder = tempfile.mkdtemp(prefix=_FOLDER)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        written = Path(folder) / "rows"
        if hasattr(rows, "__arrow_c_stream__"):
            suffix = ".parquet"
            _write_arrow(rows, written)
        elif isinstance(rows, collections.abc.Iterable) and not isinstance(rows, str | bytes | Mapping):
            suffix = ".jsonl"
            _write_dicts(rows, written)
        else:
            raise JobError(
                f"a source is a path, a Job, a list of dicts, an arrow table or a data frame, not {_kind(rows)}"
                + ("; call its collect() first" if hasattr(rows, "collect") else "")
            )
        self.path = str(written.rename(written.with_name(f"rows-{_digest(written)}{suffix}")))


def is_memory(path: str) -> bool:
    """Whether a path is that of rows from memory."""
    return Path(path).parent.name.startswith(_FOLDER)


def _write_arrow(rows: Any, path: Path) -> None:
    try:
        reader = pa.RecordBatchReader.from_stream(rows)
        schema = reader.schema
        # the index of a pandas frame is no column of its rows
        kept = [name for name in schema.names if not name.startswith("__index_level_")]
        fields = pa.schema([schema.field(name) for name in kept])
        with pq.ParquetWriter(path, fields) as writer:
            for batch in reader:
                writer.write_batch(batch.select(kept).cast(fields))
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise JobError(f"the {_kind(rows)} cannot be read as rows: {' '.join(str(error).split())[:300]}") from None


def _write_dicts(rows: Iterable[Any], path: Path) -> None:
    encode = msgspec.json.Encoder(enc_hook=_plain).encode
    with path.open("wb") as file:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise JobError(f"row {number} of the source is {_kind(row)}; give dicts, such as {{'text': …}}")
            try:
                file.write(encode(dict(row)) + b"\n")
            except (TypeError, ValueError) as error:
                raise JobError(f"row {number} of the source: {error}") from None


def _plain(value: Any) -> Any:
    """What a value of another library is in JSON: numpy's numbers and arrays, paths."""
    for name in ("tolist", "item"):
        if callable(found := getattr(value, name, None)):
            return found()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of the type {_kind(value)} has no place in JSON; turn it into text or numbers first")


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
