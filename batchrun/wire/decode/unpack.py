"""A compressed body → the bytes that were meant, piece by piece (RFC 9110 §8.4.1), without ever trusting its size.

Pieces are at most some MiB, so that whoever takes them can stop a decompression bomb at its own cap. Only gzip and
deflate are asked for; br is understood because relays send it all the same.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from batchrun.errors import EndpointError, Kind

PIECE = 1 << 20
_MOST_CODINGS = 2
_GZIP_MAGIC = b"\x1f\x8b"


class _Coding(Protocol):
    def feed(self, block: bytes) -> Iterator[bytes]: ...


class Unpacker:
    """Undoes what a Content-Encoding header names. Raises EndpointError(malformed) for what it can't undo."""

    def __init__(self, encoding: str) -> None:
        names = [name.strip().lower() for name in encoding.split(",")]
        self._codings = [_coding(name) for name in reversed(names) if name not in ("", "identity")]
        if len(self._codings) > _MOST_CODINGS:
            raise EndpointError(
                Kind.MALFORMED, f"the answer is compressed {len(self._codings)} times over ({encoding})"
            )

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The pieces that a block of the body brings, as they are unpacked."""
        return self._through(block, 0)

    def _through(self, block: bytes, at: int) -> Iterator[bytes]:
        if at == len(self._codings):
            yield block
            return
        for piece in self._codings[at].feed(block):
            yield from self._through(piece, at + 1)


def _coding(name: str) -> _Coding:
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    if name == "deflate":
        return _Deflate()
    if name == "br":
        return _Brotli()
    raise EndpointError(
        Kind.MALFORMED,
        f"the answer is compressed with {name[:40]}, which was not asked for and can't be read; "
        'headers = {"Accept-Encoding" = "identity"} under [endpoint] asks for none',
    )


class _Gzip:
    """gzip, also of several members. A body that is none, under a header that says so, is taken as it is."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: zlib._Decompress | None = None
        self._members = 0
        self._plain = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        if self._plain:
            yield block
            return
        while block:
            if self._inflate is None:
                block, self._head = self._head + block, b""
                if len(block) < len(_GZIP_MAGIC):
                    self._head = block
                    return
                if not block.startswith(_GZIP_MAGIC):
                    self._plain = self._members == 0  # behind a member it is padding
                    if self._plain:
                        yield block
                    return
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._members += 1
            yield from _inflated(self._inflate, block)
            if not self._inflate.eof:
                return
            block, self._inflate = self._inflate.unused_data, None


class _Deflate:
    """deflate with zlib's header, as the RFC says, or without, as some servers send it."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: zlib._Decompress | None = None

    def feed(self, block: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            self._head += block
            if len(self._head) < 2:
                return
            block, self._head = self._head, b""
            wrapped = block[0] & 0x0F == 8 and (block[0] << 8 | block[1]) % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        if not self._inflate.eof:
            yield from _inflated(self._inflate, block)


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        import brotli  # late: hardly any endpoint sends it

        self._brotli = brotli
        self._state = brotli.Decompressor()

    def feed(self, block: bytes) -> Iterator[bytes]:
        while not self._state.is_finished():
            try:
                piece: bytes = self._state.process(block, output_buffer_limit=PIECE)
            except self._brotli.error as error:
                raise _unreadable("br", error) from None
            if piece:
                yield piece
            block = b""
            if self._state.can_accept_more_data():
                return


def _inflated(state: "zlib._Decompress", block: bytes) -> Iterator[bytes]:
    while True:
        try:
            piece = state.decompress(block, PIECE)
        except zlib.error as error:
            raise _unreadable("gzip or deflate", error) from None
        if piece:
            yield piece
        block = state.unconsumed_tail
        if state.eof or (not block and len(piece) < PIECE):
            return


def _unreadable(name: str, error: Exception) -> EndpointError:
    return EndpointError(Kind.MALFORMED, f"the answer is not readable as {name}: {error}", unconfirmed=True)
