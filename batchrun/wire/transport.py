"""The HTTP transport: one `httpx.AsyncBaseTransport`, called directly, never through httpx.AsyncClient.

httpx's own pool scans every connection several times a request; at 1,024 in flight it doesn't finish. Behind the seam
stands httpx_aiohttp with an unlimited connector; any httpx transport may take its place. This is the only place that
knows which library carries the bytes, and what its exceptions mean.
"""

import os
import ssl
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import httpx_aiohttp

from batchrun.errors import EndpointError, Kind

Transport = httpx.AsyncBaseTransport


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), or None."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def open_transport(url: str) -> Transport:
    """A transport without a limit on connections, through the environment's proxy where it names one.

    The proxy is looked up once: aiohttp's own way (`trust_env`) goes through a thread, twice for every request.
    """
    context = httpx.create_ssl_context() if url.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=55)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    client: Callable[[], Any] = session
    proxy = proxy_for(url)
    return httpx_aiohttp.AiohttpTransport(
        verify=context, client=client, proxy=None if proxy is None else httpx.Proxy(proxy)
    )


def translated(error: Exception) -> EndpointError:
    """A transport's exception as an EndpointError: was the request sent, and may it have been billed?

    httpx_aiohttp calls every lost connection a ConnectTimeout, so its cause is asked where there is one.
    """
    cause = error.__cause__
    text = str(error) or (str(cause) if cause is not None else "") or type(error).__name__
    if isinstance(cause, aiohttp.ClientConnectorError):
        return EndpointError(Kind.CONNECT, f"cannot connect to {cause.host}:{cause.port}: {_why(cause)}")
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return EndpointError(Kind.CONNECT, "cannot connect: timed out")
    if isinstance(cause, aiohttp.SocketTimeoutError):
        return EndpointError(Kind.TIMEOUT, "no bytes came in time", unconfirmed=True)
    if isinstance(cause, aiohttp.ClientPayloadError):
        return EndpointError(Kind.DISCONNECTED, "connection lost in the middle of the answer", unconfirmed=True)
    if isinstance(cause, aiohttp.ClientConnectionError):
        return EndpointError(Kind.DISCONNECTED, f"connection lost: {text}", unconfirmed=True)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return EndpointError(Kind.CONNECT, f"cannot connect: {text}")
    if isinstance(error, httpx.TimeoutException):
        return EndpointError(Kind.TIMEOUT, "no bytes came in time", unconfirmed=True)
    if isinstance(error, aiohttp.ClientResponseError | httpx.RemoteProtocolError | httpx.DecodingError):
        return EndpointError(Kind.MALFORMED, f"not a readable HTTP answer: {text}", unconfirmed=True)
    return EndpointError(Kind.DISCONNECTED, f"connection lost: {text}", unconfirmed=True)


def _why(error: aiohttp.ClientConnectorError) -> str:
    """What the system says, without aiohttp's own words around it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        untrusted = error.certificate_error
        said = getattr(untrusted, "verify_message", "") or str(untrusted)
        return f"its certificate is not trusted: {said}"
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):  # its number is OpenSSL's, not the system's
        return f"TLS failed: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
    # a name that can't be resolved has a number below 0, several addresses have none: those tell in words
    return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or str(cause)


TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ssl.SSLError)
