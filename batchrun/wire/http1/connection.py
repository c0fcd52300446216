"""One connection: bytes out, bytes in, with back-pressure; and whether the other side had read what was sent.

That is asked of the system: bytes that its TCP never acknowledged were read by nobody. Where the other side had closed a
kept connection already, the request is none that may have been billed.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

import httpx

from batchrun.wire.http1.errors import Cut, Unread
from batchrun.wire.http1.framing import Head, read_head, refuse_other_protocols, split_head

_MOST_BUFFERED = 1 << 18
_ACKED_AT = 120  # tcpi_bytes_acked in struct tcp_info, linux/tcp.h
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)


class Connection(asyncio.Protocol):
    """`on_lost` hears of its end once. A connection carries one request at a time."""

    def __init__(self, on_lost: Callable[["Connection"], None]) -> None:
        self.idle_since = self.used_at = self.keeps_s = 0.0
        self.is_idle = self.is_closing = False
        self.has_ended = False
        self.is_reused = False
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._blocks: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._sent = 0
        self._acked: int | None = None
        self._was_unread = self._was_unfinished = False

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def wrapped(self, transport: asyncio.BaseTransport | None) -> None:
        """Go on over TLS, which a tunnel was opened for."""
        if transport is None:
            raise httpx.ConnectError("closed during TLS")
        self.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.is_idle:
            if data.strip(b"\r\n"):  # nothing was asked: whatever it is, it belongs to no request
                self.close()
            return
        self._blocks.append(data)
        self._size += len(data)
        if self._size > _MOST_BUFFERED and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def send(self, message: bytes) -> None:
        """Write one request. What becomes of it is seen when its answer is read."""
        self.is_idle = False
        self.used_at = asyncio.get_running_loop().time()
        self._acked = self._count_acked()
        self._sent = len(message)
        self.transport.write(message)

    async def head(self) -> tuple[Head, bytes]:
        """The head of the answer, and what of its body came with it; answers that only announce it are passed over.

        Raises Unread where the request was not read whole, httpx's ReadError or RemoteProtocolError.
        """
        data, seen = bytearray(), 0
        while True:
            found = split_head(data, seen) if data else None
            if found is None:
                seen = len(data)
                block = await self.read()
                if not block:
                    raise self._lost()
                data += block if seen else block.lstrip(b"\r\n")
                refuse_other_protocols(data)
                continue
            head = read_head(found[0])
            if not 100 <= head.status < 200:
                return head, found[1]
            if head.status == 101:
                raise httpx.RemoteProtocolError("it changes the protocol, which nobody asked for")
            data, seen = bytearray(found[1].lstrip(b"\r\n")), 0

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises Cut or Unread where the connection was broken off."""
        if not self._blocks:
            if not self.has_ended:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if not self._blocks:
                if self._error is not None:
                    raise self._lost()
                return b""
        blocks = self._blocks
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        blocks.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        return data

    def rest(self, now: float) -> None:
        """Nothing is asked any more: whatever ends it from now on concerns nobody."""
        self.is_idle = self.is_reused = True
        self.idle_since = now

    def close(self) -> None:
        """Close at once, also where something is still to be sent."""
        self.is_closing = True
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: Exception | None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self._error = error
        if not self.is_idle and (error is None or isinstance(error, BrokenPipeError)):
            # the end of the other side acknowledges all that it had read; after a reset nobody knows
            acked = self._count_acked()
            if acked and self._acked:
                self._was_unread = acked == self._acked
                self._was_unfinished = acked - self._acked < self._sent
        self._wake()
        self._on_lost(self)

    def _lost(self) -> httpx.NetworkError:
        """What to raise for an answer that does not come."""
        if self._was_unread:
            return Unread("connection closed before the request was read")
        if self._was_unfinished:
            return Unread("connection closed while the request was being sent")
        said = "" if self._error is None else f": {getattr(self._error, 'strerror', None) or self._error}"
        return Cut(f"connection lost{said or ': closed without an answer'}")

    def was_unread(self) -> bool:
        """Whether not a byte of the request was read: it may go out once more, on another connection."""
        return self._was_unread

    def _count_acked(self) -> int | None:
        """The bytes that the other side's TCP has taken so far; None where the system doesn't tell."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None or _TCP_INFO is None:
            return None
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKED_AT + 8)
            return int(struct.unpack_from("=Q", info, _ACKED_AT)[0])
        except (OSError, struct.error):
            return None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
