"""The input: scanned once for its shards, faults and column types, then read shard by shard (contract.md §4).

Memory holds one shard at a time, whatever the input's length. Never sends, renders or stores anything.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import JobError
from batchrun.job import Input
from batchrun.records import Row, Shard, ShardInfo
from batchrun.rows import columns, jsonl
from batchrun.rows.batch_line import answer_bytes
from batchrun.rows.files import InputFile, find

SHARD_BYTES = 32 << 20
_PARQUET_BATCH = 256


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


class _Piece(msgspec.Struct):
    """One record on its way into a shard."""

    file: int
    offset: int
    line: int
    data: dict[str, Any]
    error: str | None
    text: bytes


class Source:
    """One input. Raises JobError where it can't be found or read.

    A shard has at most `shard_rows` rows, and fewer where they are large, or are known to get large answers.
    """

    def __init__(self, settings: Input, shard_rows: int) -> None:
        if settings.path is None:
            raise JobError("no input: name a file, or [input] path in the job")
        self._settings = settings
        self._shard_rows = shard_rows
        self._filesystem, self.files = find(settings.path)
        self._parquet = self.files[0].format == "parquet"
        self._cursor: tuple[int, Iterator[tuple[ShardInfo, list[_Piece], Any]]] | None = None

    def scan(self, fault_of: Callable[[Row], str | None]) -> Inventory:
        """Read everything once. `fault_of` says why a row can't be used, or None; with `on_bad_row = "stop"` the first
        few such rows become one JobError that names each as file:line.
        """
        shards: list[ShardInfo] = []
        types = columns.ColumnTypes()
        first_fault = ""
        bad = 0
        for info, pieces, _table in self._cut(0, 0, 1, 0):
            shards.append(info)
            for row in self._rows(info, pieces):
                fault = row.error or fault_of(row)
                if fault is not None:
                    bad += 1
                    first_fault = first_fault or f"{row.where}: {fault}"
            if not self._parquet:
                types.see([piece.data for piece in pieces])
        if bad and self._settings.on_bad_row == "stop":
            more = f" ({bad - 1} more rows have a fault)" if bad > 1 else ""
            mend = 'mend the row, or record such rows as failed: [input] on_bad_row = "fail"'
            raise JobError(f"{first_fault}{more}\n{mend}")
        schema = self._parquet_schema() if self._parquet else types.schema()
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
        return Inventory(self.files, sum(info.rows for info in shards), tuple(shards), encoded, bad)

    def read(self, info: ShardInfo) -> Shard:
        """One shard. Shards read in order share one pass; any other order opens the file anew."""
        if self._cursor is None or self._cursor[0] != info.number:
            self._cursor = (info.number, self._cut(info.file, info.offset, info.line, info.first_row, info.number))
        cut = self._cursor[1]
        found, pieces, table = next(cut, (None, [], None))
        if found != info:
            name = self.files[info.file].name
            raise JobError(f"{name}: changed while the run was reading it; run the same command again")
        self._cursor = (info.number + 1, cut)
        return Shard(info, list(self._rows(info, pieces)), table)

    def _rows(self, info: ShardInfo, pieces: list[_Piece]) -> Iterator[Row]:
        named = self._settings.id
        for number, piece in enumerate(pieces, info.first_row):
            where = f"{self.files[piece.file].name}:{piece.line}"
            error = piece.error
            data = piece.data
            found = data.get(named or "custom_id")
            if found is None and not named:
                found = data.get("id")
            if named and found is None and error is None:
                error = f"no column `{named}` for the id ([input] id); columns: {', '.join(data) or 'none'}"
            yield Row(number, str(number) if found is None else str(found), data, where, error)

    def _cut(
        self, file: int, offset: int, line: int, first_row: int, number: int = 0
    ) -> Iterator[tuple[ShardInfo, list[_Piece], Any]]:
        """Cut the input into shards, from a place where a shard starts."""
        blocks = self._parquet_blocks(file, offset) if self._parquet else self._jsonl_blocks(file, offset, line)
        pieces: list[_Piece] = []
        tables: list[Any] = []
        size = 0
        for piece, table, weight in blocks:
            if self._settings.limit is not None and first_row + len(pieces) >= self._settings.limit:
                break
            pieces.append(piece)
            size += weight + answer_bytes(piece.data)
            if table is not None:
                tables.append(table)
            if len(pieces) >= self._shard_rows or size >= SHARD_BYTES:
                yield self._shard(pieces, tables, first_row, number)
                first_row, number = first_row + len(pieces), number + 1
                pieces, tables, size = [], [], 0
        if pieces:
            yield self._shard(pieces, tables, first_row, number)

    def _shard(
        self, pieces: list[_Piece], tables: list[Any], first_row: int, number: int
    ) -> tuple[ShardInfo, list[_Piece], Any]:
        digest = hashlib.blake2b(digest_size=16)
        for piece in pieces:
            digest.update(piece.text)
            digest.update(b"\n")
        table = None
        if self._parquet:
            schema = self._parquet_schema()
            table = pa.concat_tables([self._fitted(one, schema) for one in tables]).slice(0, len(pieces))
            table = table.combine_chunks()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_table(table)
            digest.update(sink.getvalue())
        first = pieces[0]
        info = ShardInfo(number, first_row, len(pieces), first.file, first.offset, first.line, digest.hexdigest())
        return info, pieces, table

    def _fitted(self, table: Any, schema: pa.Schema) -> Any:
        columns = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in schema
        ]
        return pa.table(columns, schema=schema)

    def _jsonl_blocks(self, file: int, offset: int, line: int) -> Iterator[tuple[_Piece, None, int]]:
        for number in range(file, len(self.files)):
            known = self.files[number]
            try:
                if known.compression is None:
                    stream = self._filesystem.open_input_file(known.path)
                    stream.seek(offset)
                    found = jsonl.lines(stream, offset, line)
                else:
                    stream = self._filesystem.open_input_stream(known.path, compression=known.compression)
                    found = jsonl.lines(stream)
                with stream:
                    for at, where, text in found:
                        if at >= offset:
                            yield _Piece(number, at, where, *jsonl.record(text), text), None, len(text)
            except (OSError, pa.ArrowException) as error:
                raise JobError(f"{known.name}: cannot be read: {error}") from None
            offset, line = 0, 1

    def _parquet_schema(self) -> pa.Schema:
        if not hasattr(self, "_schema"):
            schemas = [self._open_parquet(file).schema_arrow.remove_metadata() for file in self.files]
            try:
                self._schema: pa.Schema = pa.unify_schemas(schemas, promote_options="permissive")
            except pa.ArrowException as error:
                raise JobError(f"{self._settings.path}: the files' columns don't fit together: {error}") from None
        return self._schema

    def _open_parquet(self, file: InputFile) -> Any:
        try:
            return pq.ParquetFile(file.path, filesystem=self._filesystem)
        except (OSError, pa.ArrowException) as error:
            raise JobError(f"{file.name}: not a readable Parquet file: {error}") from None

    def _parquet_blocks(self, file: int, offset: int) -> Iterator[tuple[_Piece, Any, int]]:
        """Records one by one; the table of a record's own single row keeps the types that Python has no words for."""
        for number in range(file, len(self.files)):
            known = self.files[number]
            with self._open_parquet(known) as opened:
                at = 0
                for group in range(opened.num_row_groups):
                    rows = opened.metadata.row_group(group).num_rows
                    if at + rows <= offset:
                        at += rows
                        continue
                    try:
                        for batch in opened.iter_batches(_PARQUET_BATCH, row_groups=[group]):
                            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                            weight = table.nbytes // max(1, len(table))
                            for place, data in enumerate(batch.to_pylist()):
                                if at >= offset:
                                    yield _Piece(number, at, at + 1, data, None, b""), table.slice(place, 1), weight
                                at += 1
                    except (OSError, pa.ArrowException) as error:
                        raise JobError(f"{known.name}: row group {group} cannot be read: {error}") from None
            offset = 0
