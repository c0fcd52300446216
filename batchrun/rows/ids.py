"""A row's id: as it was written, else the row's number; and which ids stand twice, found in memory that stays small."""

import decimal
import hashlib
import math
import re
import sqlite3
from typing import Any

import msgspec

_encode = msgspec.json.encode
_MARK = "row:"
_MARKED = re.compile(rf"((?:{_MARK})+)[0-9]+")


def id_text(value: Any) -> str | None:
    """An id as people wrote it: 7 for 7.0 (a column of ints with a gap is one of doubles), `ab` for b"ab". None where there
    is none.
    """
    if isinstance(value, str):
        return value or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, decimal.Decimal):
        return str(int(value)) if value.is_finite() and value == value.to_integral_value() else format(value, "f")
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else str(value)
    return _encode(value).decode() if isinstance(value, bool | list | dict) else str(value)


def marks_beside(own: str) -> int:
    """How many marks the ids of rows without one need beside a row's own id, so that none of them can be the same."""
    found = _MARKED.fullmatch(own)
    return 1 if found is None else len(found[1]) // len(_MARK) + 1


def fallback(number: int, marks: int) -> str:
    """The id of a row that has none: its number, marked where other rows have ids of their own."""
    return f"{_MARK * marks}{number}"


class SeenIds:
    """The ids of an input, kept as hashes in a temporary file: memory does not grow with them."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a file that sqlite removes
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;")
        self._db.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY)")
        self._db.execute("BEGIN")

    def add(self, text: str) -> bool:
        """Remember an id; True where it was there before."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,)).rowcount == 0

    def close(self) -> None:
        self._db.close()
