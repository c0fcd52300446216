"""The bytes of an HTTP/1.1 answer → its head and its body: pure, whatever the cuts (RFC 9112).

Strict where an answer could be taken for another, lenient where curl and browsers are: large heads, bare line feeds, no
reason phrase, a length given twice, or beside chunks. What is doubtful is read, and its connection not used again.
"""

import re
from typing import NamedTuple, Protocol

import httpx

from batchrun.wire.http1.errors import Cut, Unreachable

HEAD_CAP = 1 << 20
_LINE_CAP = 1 << 14
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/(\d)(?:\.(\d))? +(\d{3})(?: +(.*))?", re.DOTALL)
_SIZE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d+)", re.IGNORECASE)


class Head(NamedTuple):
    """Status line and headers, these as they came. `keeps_s` is for how long the connection is kept at least, seconds."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    keeps: bool
    keeps_s: float | None


class Body(Protocol):
    """A body as it comes. `done` says that it is whole, `extra` that more came behind it than belongs to it."""

    done: bool
    extra: bool

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes."""

    def end(self) -> None:
        """The connection has ended. Raises Cut where the body has not."""


def split_head(data: bytes | bytearray, seen: int = 0) -> tuple[bytes, bytes] | None:
    """The head and what stands behind it; None where its end has not come. `seen` bytes were looked at before."""
    found = _END.search(data, max(0, seen - 3))
    if found is None:
        if len(data) > HEAD_CAP:
            raise httpx.RemoteProtocolError(f"its head is larger than {HEAD_CAP >> 20} MiB")
        return None
    return bytes(data[: found.start()]), bytes(data[found.end() :])


def refuse_other_protocols(data: bytes | bytearray) -> None:
    """Raise Unreachable for the first bytes of another protocol, by its name; RemoteProtocolError for what has none."""
    if data[:5] == b"HTTP/"[: len(data)]:
        return
    if data[:2] in (b"\x15\x03", b"\x16\x03"):
        raise Unreachable("the port speaks TLS: write https:// in base_url")
    if data[3:9] in (b"\x04\x00\x00\x00\x00\x00", b"\x07\x00\x00\x00\x00\x00"):  # SETTINGS or GOAWAY of stream 0
        raise Unreachable(
            "the endpoint speaks HTTP/2 alone, which is not spoken here: put a proxy before it, or switch 1.1 on"
        )
    if len(data) >= len(b"HTTP/"):
        raise httpx.RemoteProtocolError(f"it begins with {bytes(data[:40])!r}")


def read_head(data: bytes) -> Head:
    """Raises RemoteProtocolError for what is no head."""
    first, *lines = data.split(b"\n")
    status = _STATUS.fullmatch(first.rstrip(b"\r"))
    if status is None:
        raise httpx.RemoteProtocolError(f"it begins with {first[:40]!r}")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        line = line.rstrip(b"\r")
        if line[:1] in (b" ", b"\t") and headers:  # a folded line goes on with the one before
            name, value = headers[-1]
            headers[-1] = (name, value + b" " + line.strip())
            continue
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((name.strip(), value.strip()))
    connection = b",".join(_all(headers, b"connection")).lower()
    modern = status[1] != b"1" or status[2] != b"0"
    keeps = b"close" not in connection and (modern or b"keep-alive" in connection)
    stated = [_TIMEOUT.search(value) for value in _all(headers, b"keep-alive")]
    keeps_s = next((float(one[1]) for one in stated if one), None)
    return Head(int(status[3]), (status[4] or b"").strip(), headers, keeps, keeps_s)


def body_of(head: Head) -> Body:
    """How the body behind a head ends: by chunks, by a length, or with its connection. Raises RemoteProtocolError."""
    if head.status in (204, 304):
        return Sized(0)
    lengths = {one.strip() for value in _all(head.headers, b"content-length") for one in value.split(b",")}
    if b"chunked" in b",".join(_all(head.headers, b"transfer-encoding")).lower():
        return Chunked(doubtful=bool(lengths))
    if len(lengths) > 1:
        raise httpx.RemoteProtocolError(f"it has {len(lengths)} different lengths")
    length = lengths.pop() if lengths else b""
    return Sized(int(length)) if length.isdigit() and len(length) < 16 else Unsized()


class Sized:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self.done = length == 0
        self.extra = False
        self._left = length

    def feed(self, data: bytes) -> bytes:
        left = self._left = self._left - len(data)
        if left > 0:
            return data
        self.done = True
        if left < 0:
            self.extra = self.extra or bool(data[left:].strip(b"\r\n"))
            self._left = 0
            return data[:left]
        return data

    def end(self) -> None:
        if not self.done:
            raise Cut("connection lost in the middle of the answer")


class Unsized:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.done = False
        self.extra = True

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.done = True


class Chunked:
    """A body in chunks, its trailers passed over. `doubtful` says that a length stood beside them."""

    def __init__(self, *, doubtful: bool = False) -> None:
        self.done = False
        self.extra = doubtful
        self._left = 0
        self._pending = b""
        self._within = False
        self._last = False

    def feed(self, data: bytes) -> bytes:
        if self.done:
            self.extra = self.extra or bool(data.strip(b"\r\n"))
            return b""
        if self._pending:
            data, self._pending = self._pending + data, b""
        pieces: list[bytes] = []
        at = 0
        while not self.done:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._within = True
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._pending = data[at:]
                if len(self._pending) > _LINE_CAP:
                    raise httpx.RemoteProtocolError("a line between its chunks has no end")
                break
            self._line(data[at:end].rstrip(b"\r"))
            at = end + 1
        if self.done:
            self.extra = self.extra or bool(data[at:].strip(b"\r\n"))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        if not (self.done or self._last):
            raise Cut("connection lost in the middle of the answer")
        self.done = self.extra = True

    def _line(self, line: bytes) -> None:
        """A line that is not within a chunk: the end of one, the size of the next, a trailer, or the last."""
        if self._within:
            self._within = False
            if line:
                raise httpx.RemoteProtocolError("a chunk is longer than its size")
        elif self._last:
            self.done = not line
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise httpx.RemoteProtocolError(f"a chunk begins with {line[:40]!r}")
            self._left = int(size[1], 16)
            self._last = self._left == 0


def _all(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if len(name) == len(wanted) and name.lower() == wanted]
