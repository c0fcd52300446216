"""The HTTP transport: one `httpx.AsyncBaseTransport`, called directly, never through httpx.AsyncClient.

httpx's own pool scans every connection several times a request; at 1,024 in flight it doesn't finish. Behind the seam
stands httpx_aiohttp with an unlimited connector; any httpx transport may take its place. This is the only place that
knows which library carries the bytes, and what its exceptions mean.
"""

import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx_aiohttp

from batchrun.errors import EndpointError, Kind


def open_transport(url: str) -> httpx.AsyncBaseTransport:
    """A transport without a limit on connections; proxies of the environment are honoured."""
    context = httpx.create_ssl_context() if url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=55)
        return aiohttp.ClientSession(connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar())

    client: Callable[[], Any] = session
    return httpx_aiohttp.AiohttpTransport(verify=context, client=client)


def translated(error: Exception) -> EndpointError:
    """A transport's exception as an EndpointError: was the request sent, and may it have been billed?

    httpx_aiohttp calls every lost connection a ConnectTimeout, so its cause is asked where there is one.
    """
    cause = error.__cause__
    text = str(error) or (str(cause) if cause is not None else "") or type(error).__name__
    if isinstance(cause, aiohttp.ClientConnectorError):
        return EndpointError(Kind.CONNECT, f"cannot connect: {text}")
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return EndpointError(Kind.CONNECT, "cannot connect: timed out")
    if isinstance(cause, aiohttp.SocketTimeoutError):
        return EndpointError(Kind.TIMEOUT, "no bytes came in time", unconfirmed=True)
    if isinstance(cause, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        return EndpointError(Kind.DISCONNECTED, f"connection lost: {text}", unconfirmed=True)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return EndpointError(Kind.CONNECT, f"cannot connect: {text}")
    if isinstance(error, httpx.TimeoutException):
        return EndpointError(Kind.TIMEOUT, "no bytes came in time", unconfirmed=True)
    if isinstance(error, aiohttp.ClientResponseError | httpx.RemoteProtocolError | httpx.DecodingError):
        return EndpointError(Kind.MALFORMED, f"not a readable HTTP answer: {text}", unconfirmed=True)
    return EndpointError(Kind.DISCONNECTED, f"connection lost: {text}", unconfirmed=True)


TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ssl.SSLError)
