"""A new connection to one endpoint: names, addresses, options, a proxy's tunnel, TLS.

Names are looked up once, and again after a failure; IPv6 and IPv4 are tried side by side (RFC 8305). The system probes
kept connections, so that one that a middlebox has forgotten is not waited for in silence.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohappyeyeballs
import httpx

from batchrun.wire.http1.connection import Connection
from batchrun.wire.http1.errors import ProxyDenied, ProxyUnreachable, Unreachable, Untrusted, reason
from batchrun.wire.proxy import Proxy
from batchrun.wire.socks import socks_socket

Address = tuple[Any, ...]
_SECOND_FAMILY_AFTER_S = 0.25
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of silence before the first probe, seconds between probes, and after how many unanswered ones it is lost."""
_HANDSHAKE_S = 3.0
_UNACKNOWLEDGED_MS = 120_000


class Place(NamedTuple):
    """Where a request goes: a scheme, a host and a port."""

    scheme: str
    host: str
    port: int


class Dialer:
    """Makes connections to a place, through `proxy` where there is one. `context` is for TLS, also to a proxy."""

    def __init__(self, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._context = context
        self._proxy = proxy
        self._known: dict[tuple[str, int], asyncio.Task[list[Address]]] = {}

    async def connect(self, place: Place, make: Callable[[], Connection]) -> Connection:
        """Raises Unreachable, or a proxy's error: nothing of a request was sent."""
        proxy = self._proxy
        if proxy is None:
            sock = await self._socket(place.host, place.port, Unreachable, f"{place.host}:{place.port}")
            return await self._over(sock, make(), place, Unreachable)
        if proxy.is_socks:
            return await self._over(await socks_socket(proxy, place.host, place.port), make(), place, Unreachable)
        at = f"the proxy {proxy.shown}"
        sock = await self._socket(proxy.host, proxy.port, ProxyUnreachable, at)
        line = await self._over(sock, make(), Place(proxy.scheme, proxy.host, proxy.port), ProxyUnreachable)
        if place.scheme != "https":
            return line
        try:
            await _tunnel(line, proxy, place)
            await self._secure(line, place)
        except BaseException:
            line.close()
            raise
        return line

    async def wants_tls(self, place: Place) -> bool:
        """Whether TLS is what is spoken there: a handshake succeeds, whoever it is, and what is no request at all gets no
        answer of HTTP. A port that takes both is none that wants TLS.
        """
        return await self._speaks_tls(place) and not await self._speaks_http(place)

    async def _speaks_http(self, place: Place) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_HANDSHAKE_S):
                reader, writer = await asyncio.open_connection(place.host, place.port)
                try:
                    writer.write(b"?\r\n\r\n")  # refused by whatever reads HTTP, and handed on to nobody
                    return (await reader.read(5)).startswith(b"HTTP")
                finally:
                    writer.transport.abort()
        return False

    async def _speaks_tls(self, place: Place) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_HANDSHAKE_S):
                _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
            writer.transport.abort()
            return True
        return False

    async def _socket(
        self, host: str, port: int, failed: Callable[[str], httpx.TransportError], at: str
    ) -> socket.socket:
        try:
            addresses = await self._addresses(host, port)
            delay = _SECOND_FAMILY_AFTER_S if len(addresses) > 1 else None
            return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=delay)
        except OSError as error:
            self._known.pop((host, port), None)
            raise failed(f"cannot connect to {at}: {reason(error)}") from error

    async def _addresses(self, host: str, port: int) -> Any:
        """A name's addresses; however many ask at once, it is looked up once."""
        task = self._known.get((host, port))
        if task is None:
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            self._known[host, port] = task
        return await asyncio.shield(task)

    async def _over(
        self, sock: socket.socket, line: Connection, place: Place, failed: Callable[[str], httpx.TransportError]
    ) -> Connection:
        """The connection over a socket that is connected, with TLS where the place wants it."""
        probe(sock)
        context = self._context if place.scheme == "https" else None
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: line, sock=sock, ssl=context, server_hostname=place.host if context else None
            )
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(f"cannot connect to {place.host}:{place.port}: {reason(error)}") from error
        except OSError as error:
            raise failed(f"cannot connect to {place.host}:{place.port}: {reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return line

    async def _secure(self, line: Connection, place: Place) -> None:
        """TLS to the place, within a tunnel."""
        assert self._context is not None
        loop = asyncio.get_running_loop()
        try:
            line.wrapped(await loop.start_tls(line.transport, line, self._context, server_hostname=place.host))
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(f"cannot connect to {place.host}:{place.port}: {reason(error)}") from error
        except OSError as error:
            raise Unreachable(f"cannot connect to {place.host}:{place.port}: {reason(error)}") from error


async def _tunnel(line: Connection, proxy: Proxy, place: Place) -> None:
    host = f"[{place.host}]" if ":" in place.host else place.host
    target = f"{host}:{place.port}".encode()
    line.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, proxy.authorization))
    at = f"the proxy {proxy.shown}"
    try:
        head, _ = await line.head()
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ConnectError) as error:
        raise ProxyUnreachable(f"{at} does not answer CONNECT to {target.decode()}: {error}") from error
    if head.status == 407:
        raise ProxyDenied(f"{at} wants other credentials (407)")
    if not 200 <= head.status < 300:
        said = f"{head.status} {head.reason.decode('utf-8', 'replace')}".strip()
        raise ProxyUnreachable(f"{at} does not lead to {target.decode()}: it answers {said}")


def probe(sock: socket.socket) -> None:
    """Have the system look whether the other side is still there; options that it doesn't know are left."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**KEEP_ALIVE, "TCP_USER_TIMEOUT": _UNACKNOWLEDGED_MS}
    if not hasattr(socket, "TCP_KEEPIDLE"):
        options["TCP_KEEPALIVE"] = options.pop("TCP_KEEPIDLE")  # macOS' name
    for name, value in options.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
