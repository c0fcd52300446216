"""The input: scanned once for its shards, faults and column types, then read shard by shard (contract.md §4).

Memory holds one shard at a time, whatever the input's length. Never sends, renders or stores anything.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import msgspec
import pyarrow as pa

from batchrun.errors import JobError
from batchrun.records import Row, Shard, ShardInfo
from batchrun.rows import columns, files
from batchrun.rows.batch_line import answer_bytes, is_batch_line
from batchrun.rows.delimited import DelimitedReader
from batchrun.rows.files import InputFile
from batchrun.rows.ids import SeenIds, fallback, id_text, marks_beside
from batchrun.rows.jsonl import JsonlReader
from batchrun.rows.parquet import ParquetReader
from batchrun.rows.pieces import Reader
from batchrun.rows.select import Selection, Taken
from batchrun.rows.template import columns_text
from batchrun.sections import Input

SHARD_BYTES = 8 << 20
_IDS = frozenset({"custom_id", "id"})
_SHOWN = 100  # signs of an id in a message
_START = ShardInfo(0, 0, 0, 0, 0, 1, "")


class Inventory(msgspec.Struct, frozen=True):
    """What a scan found. `schema` is the input's arrow schema, serialised (base64 of Arrow IPC); `embeddings` says whether
    any row asks for vectors, so that all parts of a run have the same columns.
    """

    files: tuple[InputFile, ...]
    rows: int
    shards: tuple[ShardInfo, ...]
    schema: str
    bad_rows: int = 0
    embeddings: bool = False

    def arrow_schema(self) -> Any:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.schema)))


class Source:
    """One input. Raises JobError where it can't be found or read.

    A shard has at most `shard_rows` rows, and fewer where they are large, or are known to get large answers. `reads` are
    the columns that the job's requests are made of, None for all: Parquet's others are not turned into data. `copies` is
    how many requests, and rows of results, are made of a row. `notes` say which files are taken and left out, and what a
    scan found that is no fault.
    """

    def __init__(self, settings: Input, shard_rows: int, reads: frozenset[str] | None = None, copies: int = 1) -> None:
        if settings.path is None:
            raise JobError("no input: name a file, or [input] path in the job")
        self._settings = settings
        self._shard_rows = shard_rows
        self._copies = copies
        self._found = files.find(settings.path)
        self.files = self._found.files
        self.notes = list(self._found.notes)
        self._selection = Selection(settings)
        self._names = [file.name for file in self.files]
        self._ids = frozenset({settings.id}) if settings.id else _IDS
        needed = (reads, self._selection.columns, self._ids)
        self._reader = self._open(None if None in needed else frozenset().union(*(one or () for one in needed)))
        self._cursor: tuple[int, Iterator[tuple[ShardInfo, list[Taken], Any]]] | None = None

    def scan(self, fault_of: Callable[[Row], str | None]) -> Inventory:
        """Read everything once. `fault_of` says why a row can't be used, or None; with `on_bad_row = "stop"` the first
        such row becomes a JobError that names it as file:line and counts the rest.
        """
        shards: list[ShardInfo] = []
        types = columns.ColumnTypes()
        first_fault = ""
        bad = 0
        chosen = self._selection.choose(self._reader, self._names) if self._selection.samples else None
        with _Ids() as ids:
            for info, taken, _table in self._cut(_START, chosen):
                repeated = ids.see(self._rows(info, taken), self._own_id)
                if repeated:
                    info = msgspec.structs.replace(info, repeated=repeated)
                shards.append(info)
                for row in self._rows(info, taken):
                    fault = row.error or fault_of(row)
                    if fault is not None:
                        bad += 1
                        first_fault = first_fault or f"{row.where}: {fault}"
                if self._reader.schema is None:
                    types.see([one.piece.data for one in taken])
        pa.default_memory_pool().release_unused()  # what reading took is kept for the next time, unless it is asked back
        self._selection.check_seen(self._reader.names)
        self.notes += ids.notes()
        if bad and self._settings.on_bad_row == "stop":
            more = f" ({bad - 1} more rows have a fault)" if bad > 1 else ""
            remedy = 'correct the row, or record such rows as failed: [input] on_bad_row = "fail"'
            raise JobError(f"{first_fault}{more}\n{remedy}")
        if ids.marks:
            shards = [msgspec.structs.replace(info, id_marks=ids.marks) for info in shards]
        schema = types.schema() if self._reader.schema is None else self._reader.schema
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
        return Inventory(self.files, sum(info.rows for info in shards), tuple(shards), encoded, bad)

    def read(self, info: ShardInfo) -> Shard:
        """One shard. Shards read in order share one pass; for any other the file is opened again, or read on from where it
        stands.
        """
        if self._cursor is None or self._cursor[0] != info.number or info.picked:
            self._cursor = (info.number, self._cut(info, frozenset(info.picked) or None))
        cut = self._cursor[1]
        found, taken, table = next(cut, (None, [], None))
        if found is None or found != msgspec.structs.replace(info, id_marks=0, repeated=()):
            name = self.files[info.file].name
            raise JobError(f"{name}: changed while the run was reading it; run the same command again")
        self._cursor = (info.number + 1, cut)
        return Shard(info, list(self._rows(info, taken)), table)

    def _open(self, reads: frozenset[str] | None) -> Reader:
        known = self.files[0].format
        if known == "parquet":
            return ParquetReader(self._found, reads)
        return DelimitedReader(self._found) if known == "csv" else JsonlReader(self._found)

    def _own_id(self, data: dict[str, Any]) -> str | None:
        if self._settings.id:
            return id_text(data.get(self._settings.id))
        own = id_text(data.get("custom_id"))
        return id_text(data.get("id")) if own is None else own

    def _rows(self, info: ShardInfo, taken: list[Taken]) -> Iterator[Row]:
        named = self._settings.id
        repeated = frozenset(info.repeated)
        for number, _skipped, piece, _place in taken:
            where = f"{self._names[piece.file]}:{piece.line}"
            error = piece.error
            found = self._own_id(piece.data)
            if named and found is None and error is None:
                error = f"no column `{named}` for the id ([input] id); {columns_text(self._reader.names or piece.data)}"
            if number in repeated:
                error = (
                    error
                    or f"custom_id {str(found)[:_SHOWN]!r} stands in an earlier row too; give each row one of its own"
                )
            text = fallback(number, info.id_marks) if found is None else found
            yield Row(number, text, piece.data, where, error, self._reader.names, self._reader.filled)

    def _cut(self, place: ShardInfo, chosen: frozenset[int] | None) -> Iterator[tuple[ShardInfo, list[Taken], Any]]:
        """Cut the input into shards, from a place where a shard starts. `chosen` are the rows of a sample."""
        number = place.number
        taken: list[Taken] = []
        tables: list[Any] = []
        size = 0
        blocks = self._reader.blocks(place.file, place.offset, place.line)
        for found, table in self._selection.blocks(blocks, place.first_row, place.skipped, self._names, chosen):
            start = 0
            for end, one in enumerate(found, 1):
                taken.append(one)
                size += one.piece.weight * self._copies + answer_bytes(one.piece.data)
                if len(taken) >= self._shard_rows or size >= SHARD_BYTES:
                    tables += self._part(table, found[start:end])
                    yield self._shard(taken, tables, number)
                    number, start = number + 1, end
                    taken, tables, size = [], [], 0
            tables += self._part(table, found[start:])
        if taken:
            yield self._shard(taken, tables, number)

    def _part(self, table: Any, taken: list[Taken]) -> list[Any]:
        return [self._selection.part(table, taken)] if table is not None and taken else []

    def _shard(self, taken: list[Taken], tables: list[Any], number: int) -> tuple[ShardInfo, list[Taken], Any]:
        digest = hashlib.blake2b(digest_size=16)
        for one in taken:
            digest.update(one.piece.text)
            digest.update(b"\n")
        table = None
        if tables:
            table = pa.concat_tables(tables).combine_chunks()
            with pa.ipc.new_stream(_Digest(digest), table.schema) as writer:
                writer.write_table(table)
        first = taken[0].piece
        info = ShardInfo(
            number,
            taken[0].row,
            len(taken),
            first.file,
            first.offset,
            first.line,
            digest.hexdigest(),
            skipped=taken[0].skipped,
            picked=tuple(one.row for one in taken) if self._selection.samples else (),
        )
        return info, taken, table


class _Ids:
    """What a scan learns of ids: how those of rows without one are marked, and which stand twice."""

    def __init__(self) -> None:
        self._seen = SeenIds()
        self.marks = 0
        self._twice = 0
        self._first = ""

    def see(self, rows: Iterator[Row], own_id: Callable[[dict[str, Any]], str | None]) -> tuple[int, ...]:
        """The numbers of batch lines whose custom_id was there before; of other rows, that is only noted."""
        repeated = []
        for row in rows:
            own = own_id(row.data)
            if own is None:
                continue
            self.marks = max(self.marks, marks_beside(own))
            if self._seen.add(own):
                if is_batch_line(row.data):
                    repeated.append(row.index)
                else:
                    self._twice += 1
                    self._first = self._first or f"{own[:_SHOWN]!r} in {row.where}"
        return tuple(repeated)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._seen.close()

    def notes(self) -> list[str]:
        if not self._twice:
            return []
        rows = "1 row has" if self._twice == 1 else f"{self._twice} rows have"
        return [f"{rows} the id of an earlier row ({self._first}): the results tell them apart by `row` alone"]


class _Digest:
    """A file that only hashes what is written to it."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def writable(self) -> bool:
        return True
