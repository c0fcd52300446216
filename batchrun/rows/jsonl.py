"""JSONL, line by line: bytes in, (offset, line number, decoded record or its fault) out.

UTF-8 with or without a byte order mark, LF or CRLF, blank lines skipped. Never holds more than one block and one line.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_BLOCK = 1 << 20
_decode = msgspec.json.Decoder().decode


class Line(NamedTuple):
    """One line that is not blank. `offset` is its first byte's place in the (decompressed) file, `line` counts from 1."""

    offset: int
    line: int
    text: bytes


def lines(stream: Any, offset: int = 0, line: int = 1) -> Iterator[Line]:
    """The lines of a byte stream that stands at `offset`, which is the start of line `line`."""
    rest = b""
    first = offset == 0
    while True:
        block = stream.read(_BLOCK)
        if not block:
            break
        if b"\n" not in block:
            rest += block
            continue
        found = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = found.pop()
        for text in found:
            here, offset = offset, offset + len(text) + 1
            if first:
                text, first = text.removeprefix(b"\xef\xbb\xbf"), False
            if text and not text.isspace():
                yield Line(here, line, text)
            line += 1
    if first:
        rest = rest.removeprefix(b"\xef\xbb\xbf")
    if rest and not rest.isspace():
        yield Line(offset, line, rest)


def record(text: bytes) -> tuple[dict[str, Any], str | None]:
    """A line as a record, or ({}, what is wrong with it)."""
    try:
        value = _decode(text)
    except UnicodeDecodeError as error:
        return {}, f"not UTF-8: {error.reason} at byte {error.start} of a string"
    except msgspec.DecodeError as error:
        return {}, f"not valid JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"a row must be a JSON object, not {type(value).__name__}"
    return value, None
