"""Parquet: batches of bounded size in, records with the columns that somebody reads out, and a table of them all.

A column that no template and no request reads is never turned into Python; it only passes through, as it is. Files whose
types differ get one that holds all their values (unify.py), else the input is refused with file and column.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import JobError
from batchrun.rows import unify
from batchrun.rows.files import Found
from batchrun.rows.pieces import Block, Piece
from batchrun.rows.values import to_python

_BATCH_ROWS = 64
_LARGE_VALUES = 256 << 10
_BATCH_BYTES = 4 << 20
_BUFFER = 1 << 20
_BUFFERS = 16 << 20
_LEAST_BUFFER = 16 << 10
"""Each column that is read has a buffer of its own: all of them together take no more than one of a wide file may."""
_FIELD_ID = b"PARQUET:field_id"


class _Place(NamedTuple):
    """Where reading stands: in `group` of `file`, `batch` starts at row `at`, and `batches` come after it."""

    file: int
    group: int
    at: int
    batch: Any
    batches: Iterator[Any]


class ParquetReader:
    """Rows of Parquet files. `reads` are the columns that are turned into data, None for all. Raises JobError."""

    filled = True

    def __init__(self, found: Found, reads: frozenset[str] | None) -> None:
        self._found = found
        self._reads = reads
        self._opened: tuple[int, Any] | None = None
        self._place: _Place | None = None
        self._partitions = list(dict.fromkeys(key for file in found.files for key in file.partition))
        self.schema = self._common_schema()
        self.names: tuple[str, ...] | None = tuple(self.schema.names)
        self._refuse_twice()

    def blocks(self, file: int, offset: int, line: int) -> Iterator[Block]:  # noqa: ARG002 - a row has no line
        for number in range(file, len(self._found.files)):
            for at, batch in self._batches(number, offset):
                yield self._block(number, at, batch)
            offset = 0

    def _batches(self, number: int, offset: int) -> Iterator[tuple[int, Any]]:
        """(row number, record batch) from a row on; what was read just before is not read again."""
        name = self._found.files[number].name
        opened = self._open(number)
        at = 0
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if at + rows > offset:
                try:
                    for start, batch in self._group(number, group, at, offset):
                        skip = max(0, offset - start)
                        yield start + skip, batch.slice(skip)
                except (OSError, pa.ArrowException) as error:
                    raise JobError(f"{name}: row group {group} cannot be read: {error}") from None
            at += rows

    def _group(self, number: int, group: int, first: int, offset: int) -> Iterator[tuple[int, Any]]:
        """The batches of a row group that end behind `offset`, going on from the last place where that is possible."""
        place = self._place
        if place is not None and place[:2] == (number, group) and place.at <= offset:
            at, batch, batches = place.at, place.batch, place.batches
        else:
            at, batch, batches = first, None, self._start(number, group)
        while True:
            if batch is not None:
                if at + len(batch) > offset:
                    yield at, batch
                at += len(batch)
            batch = next(batches, None)
            if batch is None:
                return
            self._place = _Place(number, group, at, batch, batches)

    def _start(self, number: int, group: int) -> Iterator[Any]:
        opened = self._open(number)
        known = opened.metadata.row_group(group)
        each, most = known.total_byte_size // max(1, known.num_rows) + 1, _BATCH_ROWS
        if any(_may_unfold(known.column(place)) for place in range(known.num_columns)):
            first = next(opened.iter_batches(1, row_groups=[group], use_threads=False), None)
            each, most = max(each, 0 if first is None else first.nbytes), _BATCH_ROWS // 4
        size = max(1, min(most, _BATCH_BYTES // each))
        batches: Iterator[Any] = opened.iter_batches(size, row_groups=[group], use_threads=False)
        return batches

    def _open(self, number: int) -> Any:
        if self._opened is None or self._opened[0] != number:
            if self._opened is not None:
                self._opened[1].close(force=True)
            self._opened, self._place = None, None
            try:
                source = self._found.open(number)
                # INT96 by the microsecond: by the nanosecond, years before 1678 and after 2262 become others
                footer = pq.read_metadata(source)
                size = min(_BUFFER, max(_LEAST_BUFFER, _BUFFERS // max(1, footer.num_columns)))
                opened = pq.ParquetFile(
                    source, metadata=footer, pre_buffer=False, buffer_size=size, coerce_int96_timestamp_unit="us"
                )
            except (OSError, pa.ArrowException) as error:
                name = self._found.files[number].name
                raise JobError(f"{name}: not a readable Parquet file: {error}") from None
            self._opened = (number, opened)
        return self._opened[1]

    def _block(self, number: int, at: int, batch: Any) -> Block:
        weight = batch.nbytes // max(1, len(batch))
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if self._reads is None or name in self._reads:
                columns[name] = self._values(number, name, column)
        for name in self._partitions:
            columns.setdefault(name, [self._found.files[number].partition.get(name)] * len(batch))
        rows = zip(*columns.values(), strict=True) if columns else iter([()] * len(batch))
        pieces = [
            Piece(number, row, row + 1, dict(zip(columns, values, strict=True)), None, b"", weight)
            for row, values in enumerate(rows, at)
        ]
        return Block(pieces, self._fitted(number, batch))

    def _values(self, number: int, name: str, column: Any) -> list[Any]:
        try:
            return to_python(column)
        except ValueError as error:
            raise JobError(f"{self._found.files[number].name}: column `{name}`: {error}") from None

    def _fitted(self, number: int, batch: Any) -> Any:
        """All columns of a batch, with the types that they have in the whole input."""
        names = batch.schema.names
        known = dict(zip(names, batch.columns, strict=True))
        partition = self._found.files[number].partition
        columns = []
        aligned = names == self.schema.names
        for place, field in enumerate(self.schema):
            if aligned:
                column = batch.column(place)
            elif field.name in known:
                column = known[field.name]
            else:
                column = pa.array([partition.get(field.name)] * len(batch), pa.string())
            try:
                columns.append(unify.fit(column, field.type) if field.name in known else column.cast(field.type))
            except (pa.ArrowException, ValueError) as error:
                raise JobError(
                    f"{self._found.files[number].name}: column `{field.name}` is {column.type} here and {field.type} with the "
                    f"other files, which does not hold a value of it: {error}"
                ) from None
        return pa.table(columns, schema=self.schema)

    def _common_schema(self) -> pa.Schema:
        found: pa.Schema | None = None
        for number, file in enumerate(self._found.files):
            own = self._open(number).schema_arrow
            fields = [_plain(field) for field in own]
            if found is None:
                found = pa.schema(fields, metadata=own.metadata)
            elif [*found] != fields:
                found = self._joined(found, fields, file.name)
        assert found is not None
        for name in self._partitions:
            if name not in found.names:
                found = found.append(pa.field(name, pa.string()))
        return found

    def _joined(self, found: pa.Schema, fields: list[Any], name: str) -> pa.Schema:
        known = {field.name: field for field in found}
        new = {field.name: field for field in fields}
        if len(known) < len(found) or len(new) < len(fields):
            raise JobError(f"{name}: has two columns of one name, and others than the files before it; rename them")
        joined = []
        for key in dict.fromkeys([*known, *new]):
            one, other = known.get(key), new.get(key)
            if one is None or other is None:
                alone: Any = one or other
                joined.append(alone.with_nullable(True))
                continue
            kind = unify.common(one.type, other.type)
            if kind is None:
                raise JobError(
                    f"{name}: column `{key}` is {other.type} here and {one.type} in the files before it, and no type holds "
                    "both; write them with one type, or give each file a run of its own"
                )
            joined.append(one.with_type(kind).with_nullable(one.nullable or other.nullable))
        return pa.schema(joined, metadata=found.metadata)

    def _refuse_twice(self) -> None:
        names = self.schema.names
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None and (self._reads is None or twice in self._reads):
            raise JobError(f"{self._found.files[0].name}: two columns are named `{twice}`; rename one of them")


def _may_unfold(column: Any) -> bool:
    """Whether values are kept once and repeated, and may be so large that rows take far more memory than the file."""
    return bool(column.has_dictionary_page) and column.total_uncompressed_size > _LARGE_VALUES


def _plain(field: Any) -> Any:
    """A field with the type under which it is kept, without what only the file's writer had to know."""
    kept = {key: value for key, value in (field.metadata or {}).items() if key != _FIELD_ID}
    return field.with_type(unify.settled(field.type)).with_metadata(kept or None)
