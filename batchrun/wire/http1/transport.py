"""The transport: requests of httpx out, answers of httpx in, over connections that are kept.

Where the other side had closed a kept one and had read nothing, the request goes out once more on another. No limit on
connections: what is in flight is bounded elsewhere.
"""

import asyncio
from collections.abc import AsyncIterator

import anyio
import httpx

from batchrun.wire.http1.connection import Connection
from batchrun.wire.http1.dial import Dialer, Place
from batchrun.wire.http1.errors import Unreachable, Unread
from batchrun.wire.http1.framing import Body, Head, body_of
from batchrun.wire.http1.pool import Pool
from batchrun.wire.proxy import Proxy


class Http1Transport(httpx.AsyncBaseTransport):
    """`proxy` is asked for what is spoken without TLS; through its tunnel goes the rest."""

    def __init__(self, dialer: Dialer, proxy: Proxy | None = None) -> None:
        self._dialer = dialer
        self._forwarding = proxy if proxy is not None and not proxy.is_socks else None
        self._pool = Pool()
        self._met: set[Place] = set()
        self._tls: dict[Place, bool] = {}
        self._asking = asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        place = Place(url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80))
        message = self._message(request, await request.aread())
        connect_s = request.extensions.get("timeout", {}).get("connect")
        while True:
            line = self._pool.take(place) or await self._dial(place, connect_s)
            try:
                line.send(message)
                head, begun = await line.head()
                body = body_of(head)
                break
            except BaseException as error:
                line.close()
                if line.is_reused and isinstance(error, httpx.NetworkError):
                    self._pool.failed(line, place)
                elif line.is_reused and isinstance(error, asyncio.CancelledError):
                    self._pool.silent(line, place)
                if line.is_reused and isinstance(error, Unread) and line.was_unread():
                    continue
                if isinstance(error, httpx.NetworkError) and await self._wants_tls(place):
                    raise Unreachable("the port speaks TLS: write https:// in base_url") from error
                raise
        self._met.add(place)
        stream = _Stream(self._pool, place, line, head, body, begun)
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": head.reason}
        return httpx.Response(head.status, headers=head.headers, stream=stream, extensions=extensions)

    async def aclose(self) -> None:
        """Close every connection, and see the system told of it."""
        self._pool.close()
        await asyncio.sleep(0)

    async def _wants_tls(self, place: Place) -> bool:
        """Whether a place that was spoken to without TLS, and closed without having answered ever, wants TLS. That is found
        out once: whoever is cut off meanwhile waits for it, and it holds for those that come later.
        """
        if place.scheme != "http" or place in self._met or self._forwarding is not None:
            return False
        async with self._asking:
            if place not in self._tls:
                self._tls[place] = await self._dialer.wants_tls(place)
        return self._tls[place]

    async def _dial(self, place: Place, connect_s: float | None) -> Connection:
        try:
            with anyio.fail_after(connect_s):
                line = await self._dialer.connect(place, lambda: Connection(self._pool.lost))
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"timed out after {connect_s} s") from error
        self._pool.add(line, place)
        return line

    def _message(self, request: httpx.Request, content: bytes) -> bytes:
        """The request as bytes. A proxy that is asked without a tunnel is told the whole URL, and its credentials."""
        target, more = request.url.raw_path, b""
        if self._forwarding is not None and request.url.scheme == "http":
            target = b"http://" + request.url.netloc + target
            more = self._forwarding.authorization
        lines = b"".join([b"%b: %b\r\n" % pair for pair in request.headers.raw])
        return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (request.method.encode("ascii"), target, lines, more, content)


class _Stream(httpx.AsyncByteStream):
    """The body of one answer. Its connection is kept once the body has come whole, and closed where it has not."""

    def __init__(self, pool: Pool, place: Place, line: Connection, head: Head, body: Body, begun: bytes) -> None:
        self._pool = pool
        self._place = place
        self._line: Connection | None = line
        self._head = head
        self._body = body
        self._begun = begun

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, line = self._body, self._line
        data, self._begun = self._begun, b""
        while line is not None:
            if data and (piece := body.feed(data)):
                yield piece
            if body.done:
                self._leave()
                return
            data = await line.read()
            if not data:
                body.end()

    async def aclose(self) -> None:
        if self._line is not None and self._begun and not self._body.done:
            self._body.feed(self._begun)  # a body that came with its head need not be read to be whole
        self._leave()

    def _leave(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        body = self._body
        if body.done and not body.extra and self._head.keeps and not line.has_ended:
            self._pool.give_back(line, self._place, self._head.keeps_s)
        else:
            line.close()
