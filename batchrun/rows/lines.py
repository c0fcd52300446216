"""The lines of a text file, plain or compressed: bytes in, (offset, line number, bytes) out, in linear time.

UTF-8 with or without a byte order mark, LF or CRLF. Never holds more than one block and one line, and of a line that is
longer than any request may be, nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from batchrun.errors import JobError
from batchrun.rows.files import Found

LONGEST = 64 << 20
_BLOCK = 1 << 20
_MARK = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class Line(NamedTuple):
    """One line. `offset` is its first byte's place in the (decompressed) file, `line` counts from 1; `text` is without its
    line feed, and None where it is longer than LONGEST.
    """

    offset: int
    line: int
    text: bytes | None


class Lines:
    """The lines of a byte stream that stands at `offset`, which is the start of line `line`."""

    def __init__(self, stream: Any, offset: int = 0, line: int = 1) -> None:
        self._stream = stream
        self.offset = offset
        self.line = line
        self._pending: list[bytes | int] = []  # the next one last; of one that is too long, its length
        self._rest = b""  # the start of a line
        self._ahead = b""  # what was read and not looked at yet
        self._ended = False

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        while not self._pending:
            if self._ended:
                raise StopIteration
            self._fill()
        text = self._pending.pop()
        here = Line(self.offset, self.line, None if isinstance(text, int) else text)
        self.offset += (text if isinstance(text, int) else len(text)) + 1
        self.line += 1
        # a mark stands at the head of a file, and where files were put one behind the other
        return here if here.text is None or here.text[:3] != _MARK else here._replace(text=here.text[3:])

    def head(self) -> bytes:
        """The next block, which stays to be read."""
        self._ahead = self._ahead or self._stream.read(_BLOCK)
        return self._rest + self._ahead

    def skip(self, offset: int, line: int) -> None:
        """Go on to the start of a line further on."""
        while self._pending and self.offset < offset:
            next(self)
        if self.offset < offset:
            known, self._rest = self._rest + self._ahead, b""
            left = offset - self.offset - len(known)
            self._ahead = known[offset - self.offset :]
            while left > 0 and (block := self._stream.read(min(left, _BLOCK))):
                left -= len(block)
            self.offset = offset
        self.line = line

    def _fill(self) -> None:
        parts, held, length = [self._rest], len(self._rest), len(self._rest)
        while block := self._ahead or self._stream.read(_BLOCK):
            self._ahead = b""
            if b"\n" in block:
                head, _, tail = block.partition(b"\n")
                length += len(head)
                first: bytes | int = b"".join([*parts, head]) if length <= LONGEST else length
                others: list[bytes | int] = [*tail.split(b"\n")]
                rest = others.pop()
                assert isinstance(rest, bytes)
                self._rest, self._pending = rest, [first, *others][::-1]
                return
            length += len(block)
            if held <= LONGEST:
                parts.append(block)
                held += len(block)
            else:
                parts.clear()
        self._ended = True
        if length:
            self._pending = [b"".join(parts) if length <= LONGEST else length]


class Texts:
    """The text files of an input. One that can't seek is read on from where it stands, if what is wanted comes later."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._last: tuple[int, Lines] | None = None

    def lines(self, file: int, offset: int, line: int) -> Lines:
        """A file's lines from a place on where a line starts. Raises JobError, OSError and pa.ArrowException."""
        last, compression = self._last, self._found.files[file].compression
        if compression and last is not None and last[0] == file and last[1].offset <= offset:
            last[1].skip(offset, line)
            return last[1]
        stream = self._found.open(file)
        if compression is None:
            stream.seek(offset)
            lines = Lines(stream, offset, line)
        else:
            lines = Lines(pa.CompressedInputStream(stream, compression))
            lines.skip(offset, line)
        self._last = (file, lines)
        return lines

    def fault(self, file: int, error: Exception) -> JobError:
        """What a file that can't be read is told as."""
        name = self._found.files[file].name
        if "too much memory" in str(error):
            return JobError(
                f"{name}: compressed with a longer window than can be read (zstd --long); write it again without: "
                f"zstd -d --long=31 -c {name} > FILE.jsonl"
            )
        return JobError(f"{name}: cannot be read: {error}")


def refuse_wide(head: bytes, name: str) -> None:
    """Raise JobError where a file's first bytes show UTF-16 or UTF-32."""
    if head[:2] in _WIDE or b"\0" in head[:4]:
        raise JobError(f"{name}: UTF-16 or UTF-32, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {name} > FILE")
