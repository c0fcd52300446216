"""JSON Lines: one object a line, blank lines skipped; what is not one is a fault that says what it is."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from batchrun.errors import JobError
from batchrun.rows.files import Found
from batchrun.rows.lines import LONGEST, Line, Texts, refuse_wide
from batchrun.rows.pieces import Block, Piece

DEEPEST = 256
"""Levels of nesting that a value may have: well inside what every step after can follow."""
_decode = msgspec.json.Decoder().decode
_OPENS_ARRAY = re.compile(rb"\[\s*(?:[{\[]|\n)")
_OPENS_OBJECT = re.compile(rb"\{[ \t\r]*\n")
_HALF = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]", re.DOTALL
)
_CONSTANT = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")


class JsonlReader:
    """Rows of JSONL files."""

    filled = False
    names: tuple[str, ...] | None = None
    schema: Any = None

    def __init__(self, found: Found) -> None:
        self._found = found
        self._texts = Texts(found)

    def blocks(self, file: int, offset: int, line: int) -> Iterator[Block]:
        for number in range(file, len(self._found.files)):
            try:
                lines = self._texts.lines(number, offset, line)
                if offset == 0:
                    _refuse_whole(lines.head(), self._found.files[number].name)
                for one in lines:
                    if one.text is None or (one.text and not one.text.isspace()):
                        yield Block([self._piece(number, one)])
            except (OSError, pa.ArrowException) as error:
                raise self._texts.fault(number, error) from None
            offset, line = 0, 1

    def _piece(self, number: int, line: Line) -> Piece:
        known = self._found.files[number]
        text = line.text
        if text is None:
            fault = f"a line of more than {LONGEST >> 20} MiB; no request can be that long"
            return Piece(number, line.offset, line.line, {}, fault, b"%d" % line.offset, 0)
        data, error = record(text)
        if known.partition and error is None:
            data = {**known.partition, **data}
        return Piece(number, line.offset, line.line, data, error, text, _memory_of(text))


def _memory_of(text: bytes) -> int:
    """About how many bytes a line takes in memory, together with its record: objects and numbers take more than their text."""
    return len(text) + 160 * text.count(b"{") + 56 * text.count(b"[") + 32 * text.count(b",")


_NOT_LINES = "not JSON Lines, where each row is an object on a line of its own"


def _refuse_whole(head: bytes, name: str) -> None:
    """Raise JobError where a file's first block shows that all of it is one JSON text."""
    refuse_wide(head, name)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"[" and (_OPENS_ARRAY.match(start) or b"\n" not in start):
        raise JobError(f"{name}: a JSON array, {_NOT_LINES}; convert it: jq -c '.[]' {name} > rows.jsonl")
    if _OPENS_OBJECT.match(start):
        raise JobError(f"{name}: pretty-printed JSON, {_NOT_LINES}; convert it: jq -c . {name} > rows.jsonl")


def record(text: bytes) -> tuple[dict[str, Any], str | None]:
    """A line as a record, or ({}, what is wrong with it)."""
    value, error = decoded(text)
    if error is None and not isinstance(value, dict):
        return {}, f"a row must be a JSON object, not {type(value).__name__}"
    return ({}, error) if error is not None else (value, None)


def decoded(text: bytes) -> tuple[Any, str | None]:
    """(a JSON text's value, None) or (None, what is wrong with it)."""
    try:
        value = _decode(text)
        if text.count(b"{") + text.count(b"[") > DEEPEST and _is_deep(value):
            raise RecursionError
    except RecursionError:
        return None, f"nested more than {DEEPEST} levels deep"
    except UnicodeDecodeError as error:
        return None, f"not UTF-8: {error.reason} at byte {error.start} of a string; save the file as UTF-8"
    except msgspec.DecodeError as error:
        return None, _reason(text, str(error))
    return value, None


def _reason(text: bytes, said: str) -> str:
    constant = _CONSTANT.search(text)
    if _HALF.search(text):
        return f"not valid JSON: half a character (a lone \\uD800–\\uDFFF) stands in it: {said}"
    if constant is not None:
        return f"not valid JSON: {constant[1].decode()} is no JSON value; write null"
    if "truncated" in said:
        return f"not valid JSON: it ends in the middle ({said}); each row must stand whole on one line"
    return f"not valid JSON: {said}"


def _is_deep(value: Any) -> bool:
    """Whether a value is nested more than DEEPEST levels, told without recursion."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
