"""CSV and TSV: a header that names the columns, then a record for each row, which may span lines inside quotes.

Every value is text, as it was written: `007` stays `007`, and what a number means is for the template to say. CSV has no
word for null, so an empty cell is one, as it is for the tools that read such files. By the csv module, strictly (RFC 4180):
a quote out of place is a fault of its row, not data bent in silence; and it says which line that is.
"""

import csv
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from batchrun.errors import JobError
from batchrun.rows.files import Found
from batchrun.rows.lines import LONGEST, Lines, Texts, refuse_wide
from batchrun.rows.pieces import Block, Piece

_LONGEST_CELL = 16 << 20  # signs; the csv module takes four bytes for each
csv.field_size_limit(max(_LONGEST_CELL, csv.field_size_limit()))


class _TooLong(Exception):  # noqa: N818 - it never leaves this module
    """A line that no row can have."""


class DelimitedReader:
    """Rows of CSV and TSV files. Each file has its own header; the delimiter is told by it, and by the ending .tsv."""

    filled = False
    names: tuple[str, ...] | None = None
    schema: Any = None

    def __init__(self, found: Found) -> None:
        self._found = found
        self._texts = Texts(found)
        self._headers: dict[int, tuple[str, list[str], int, int]] = {}

    def blocks(self, file: int, offset: int, line: int) -> Iterator[Block]:
        for number in range(file, len(self._found.files)):
            try:
                header = self._header(number)
                if header is not None:
                    delimiter, names, body, first = header
                    start = (offset, line) if offset else (body, first)
                    for piece in self._records(number, delimiter, names, self._texts.lines(number, *start)):
                        yield Block([piece])
            except (OSError, pa.ArrowException) as error:
                raise self._texts.fault(number, error) from None
            offset, line = 0, 1

    def _header(self, number: int) -> tuple[str, list[str], int, int] | None:
        """(delimiter, column names, offset and line of the first record), or None for a file without any line."""
        if number not in self._headers:
            name = self._found.files[number].name
            lines = self._texts.lines(number, 0, 1)
            refuse_wide(lines.head(), name)
            first = next((line for line in lines if line.text is None or line.text.strip()), None)
            if first is None:
                return None
            text = _text([first.text or b""])
            if first.text is None or _is_broken(text):
                raise JobError(
                    f"{name}:{first.line}: not a header of column names in UTF-8; save the file as CSV UTF-8"
                )
            delimiter = _delimiter(text, name)
            raw: list[bytes] = []
            again = self._texts.lines(number, first.offset, first.line)
            names = next(csv.reader(_feed(again, raw), delimiter=delimiter, strict=True))
            self._headers[number] = (delimiter, _named(names, name, first.line), again.offset, again.line)
        return self._headers[number]

    def _records(self, number: int, delimiter: str, names: list[str], lines: Lines) -> Iterator[Piece]:
        known = self._found.files[number]
        raw: list[bytes] = []
        reader = csv.reader(_feed(lines, raw), delimiter=delimiter, strict=True)
        while True:
            raw.clear()
            offset, line = lines.offset, lines.line
            cells: list[str] = []
            try:
                cells = next(reader)
                error = None if not cells else _fault(cells, names)
            except StopIteration:
                return
            except _TooLong:
                error = f"a line of more than {LONGEST >> 20} MiB; no request can be that long"
                # a feed that has raised is at its end
                reader = csv.reader(_feed(lines, raw), delimiter=delimiter, strict=True)
            except csv.Error as said:
                if "unexpected end" in str(said) or "field limit" in str(said):
                    raise JobError(f'{known.name}:{line}: a quote (") that opens in this row is never closed') from None
                error = f"not valid CSV: {said}"
            if cells or error is not None:
                data = {} if error else dict(zip(names, (cell or None for cell in cells), strict=True))
                text = b"\n".join(raw)
                yield Piece(number, offset, line, {**known.partition, **data}, error, text, len(text))


def _feed(lines: Lines, raw: list[bytes]) -> Iterator[str]:
    """Lines as the csv module takes them; `raw` gets their bytes. What is not UTF-8 stays recognisable."""
    for line in lines:
        if line.text is None:
            raise _TooLong
        raw.append(line.text)
        yield _text([line.text, b"\n"])


def _text(parts: list[bytes]) -> str:
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _is_broken(text: str) -> bool:
    return not text.isascii() and re.search("[\udc80-\udcff]", text) is not None


def _fault(cells: list[str], names: list[str]) -> str | None:
    if len(cells) != len(names):
        return f"{len(cells)} cells, and the header names {len(names)} columns"
    if any(map(_is_broken, cells)):
        return "not UTF-8; save the file as CSV UTF-8"
    return None


def _delimiter(header: str, name: str) -> str:
    """The sign that the header has most of outside of quotes: a comma, a tab, or the semicolon of many spreadsheets."""
    if name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".tsv"):
        return "\t"
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",\t;", key=bare.count)


def _named(names: list[str], file: str, line: int) -> list[str]:
    """Column names, one for each cell; a column without one is what many tools write for the row's number."""
    found = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    twice: Any = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise JobError(f"{file}:{line}: the header names two columns `{twice}`; rename one of them")
    return found
