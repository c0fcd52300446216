"""What a format's reader hands over: blocks of records, each with the place where it stands."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec


class Piece(msgspec.Struct, frozen=True):
    """One record. `offset` and `line` say where it starts (see records.ShardInfo), `text` is what it was read from where
    that is text, `weight` about how many bytes of memory it takes.
    """

    file: int
    offset: int
    line: int
    data: dict[str, Any]
    error: str | None
    text: bytes
    weight: int


class Block(NamedTuple):
    """Consecutive records of one file. `table` has all their columns, one row a record, where the format is arrow's."""

    pieces: list[Piece]
    table: Any = None


class Reader(Protocol):
    """One format. `names` are the columns where all records have the same, `schema` their arrow types, None where those
    are learnt from the records; `filled` says that a null may stand only because a schema gives every record every field.
    """

    names: tuple[str, ...] | None
    schema: Any
    filled: bool

    def blocks(self, file: int, offset: int, line: int) -> Iterator[Block]:
        """Everything from a place on where a record starts. Raises JobError where a file can't be read."""
        ...
