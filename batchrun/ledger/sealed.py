"""A sealed Parquet file: checked when it is written, and whenever it is opened.

Every page carries its checksum, the names of the columns one of their own, and a checksum that doesn't fit is damage,
never an answer. Knows nothing of what a result means.
"""

import contextlib
import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.layout import LATER, RESULT_SCHEMA, Layout
from batchrun.ledger.store import Stored, one_line

DAMAGE = (OSError, ValueError, KeyError, MemoryError, pa.ArrowException)
_DEEP = {"schema_depth_limit": 1000} if "schema_depth_limit" in inspect.signature(pq.ParquetFile).parameters else {}
"""Files of an earlier version may be deeper than pyarrow reads unasked (where it can be asked): the answers are in them."""
_BATCH_ROWS = 256
_OURS = b"batchrun."
_SCHEMA = b"ARROW:schema"
"""The key under which pyarrow itself keeps a table's schema."""
NAMES = _OURS + b"columns"
"""The CRC-32 of a file's column names: a footer has no checksum of its own."""


def publish(target: Stored, table: Any, metadata: Mapping[bytes, bytes] | None = None) -> None:
    """Publish a table once it was read back: what it is made from is given up for it."""
    with target.replacing() as temporary:
        _put(table.replace_schema_metadata(footer(table.schema, metadata)), temporary)
        try:
            with _file(temporary) as opened:
                _run_through(opened)
        except DAMAGE as error:
            raise LedgerError(
                f"{target}: what was written cannot be read back: {one_line(error)}. Nothing is lost: what it was made from "
                "is kept. Check the disk, then run the same command again"
            ) from error
    pa.default_memory_pool().release_unused()


@contextlib.contextmanager
def writer(target: Stored, schema: Any) -> Iterator[Any]:
    """A pyarrow ParquetWriter of a file that is published at the end."""
    whole = schema.with_metadata(footer(schema))
    with (
        target.replacing() as temporary,
        pq.ParquetWriter(temporary, whole, compression="zstd", write_page_checksum=True) as opened,
    ):
        yield opened


def check_storable(layout: Layout) -> None:
    """Raises JobError, naming it, for an input column that no part could hold: before anything is paid for."""
    try:
        _try_out(layout.schema)
    except DAMAGE as error:
        for field in layout.schema:
            try:
                _try_out(pa.schema([field]))
            except DAMAGE as fault:
                raise JobError(
                    f"column `{field.name}` cannot be kept in the results: {one_line(fault)}; "
                    "leave it out of the input, or give it another type"
                ) from error
        raise JobError(f"the input's columns cannot be kept in the results: {one_line(error)}") from error


def is_whole(file: Stored) -> bool:
    """Whether a file of results can be read to its last byte, by others too."""
    try:
        with _readable_for_all(file) as opened:
            _run_through(opened)
    except LedgerError:
        return False
    return True


def read_whole(file: Stored) -> Any:
    """All rows and columns, as one table."""
    with open_checked(file) as opened:
        return _whole(opened)


def group(opened: Any, number: int) -> Any:
    """All columns of one row group of an open file."""
    table = opened.read_row_group(number)
    if table.num_rows != opened.metadata.row_group(number).num_rows:
        raise pa.ArrowInvalid(f"rows of its row group {number} are missing")
    return table


@contextlib.contextmanager
def open_checked(file: Stored) -> Iterator[Any]:
    """A pyarrow ParquetFile whose footer agrees with itself and with what results are. Damage is a LedgerError."""
    with readable(file), file.opened() as source, _file(source, **_DEEP) as opened:
        yield opened


@contextlib.contextmanager
def readable(file: Stored) -> Iterator[None]:
    """Damage to a sealed file is a LedgerError that names it and the way on."""
    try:
        yield
    except DAMAGE as error:
        raise LedgerError(
            f"{file}: this sealed file cannot be read: {one_line(error)}. Set it aside, under another name, and run the "
            "same command again: what it holds is asked again"
        ) from error


def footer(schema: Any, metadata: Mapping[bytes, bytes] | None = None) -> dict[bytes, bytes]:
    """The metadata that a file of that schema gets: what the schema says itself, `metadata`, and a check of its columns."""
    return {**(bare(schema).metadata or {}), **(metadata or {}), NAMES: _checksum(schema.names)}


def bare(schema: Any) -> Any:
    """The schema without what a footer says for us alone."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if not key.startswith(_OURS)}
    return schema.with_metadata(kept or None)


def _put(table: Any, path: Any) -> None:
    size = max(1, table.num_rows)
    pq.write_table(table, path, compression="zstd", row_group_size=size, write_page_checksum=True)


def _run_through(opened: Any) -> None:
    """Read every page, a few rows at a time."""
    rows = sum(batch.num_rows for batch in opened.iter_batches(_BATCH_ROWS, use_threads=False))
    if rows != opened.metadata.num_rows:
        raise pa.ArrowInvalid("some of its rows are missing")


def _whole(opened: Any) -> Any:
    table = opened.read(use_threads=False)
    if table.num_rows != opened.metadata.num_rows:
        raise pa.ArrowInvalid("some of its rows are missing")
    return table


@contextlib.contextmanager
def _readable_for_all(file: Stored) -> Iterator[Any]:
    with readable(file), file.opened() as source, _file(source) as opened:
        yield opened


@contextlib.contextmanager
def _file(source: Any, **options: Any) -> Iterator[Any]:
    # not buffered ahead: that would hold all of a row group's bytes beside what is made of them
    with pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True, **options) as opened:
        _check_footer(opened)
        yield opened


def _check_footer(opened: Any) -> None:
    """A footer has no checksum of its own: what it says of rows and columns must agree with itself and with us."""
    footer, kept = opened.metadata, opened.schema_arrow
    if footer.num_rows != sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups)):
        raise pa.ArrowInvalid("its footer contradicts itself")
    if _SCHEMA not in (footer.metadata or {}):  # every version has written it
        raise pa.ArrowInvalid("its footer has lost what was kept in it")
    checksum, names = (footer.metadata or {}).get(NAMES), kept.names
    if checksum is not None and checksum != _checksum(names):
        raise pa.ArrowInvalid("its columns are not named as they were")
    for field in RESULT_SCHEMA:
        if field.name in LATER and field.name not in names:
            continue
        if names.count(field.name) != 1 or kept.field(field.name).type != field.type:
            raise pa.ArrowInvalid(f"its column {field.name} is not what it was")


def _checksum(names: Sequence[str]) -> bytes:
    return b"%08x" % zlib.crc32(msgspec.json.encode(names))


def _try_out(schema: Any) -> None:
    sink = pa.BufferOutputStream()
    _put(pa.Table.from_batches([], schema=schema), sink)  # empty_table() would load pandas where it is
    pq.ParquetFile(pa.BufferReader(sink.getvalue())).read(use_threads=False)
