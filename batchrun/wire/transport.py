"""The HTTP transport: one `httpx.AsyncBaseTransport`, called directly, never through httpx.AsyncClient.

httpx's own pool scans every connection several times a request; at 1,024 in flight it doesn't finish. Behind the seam
stands httpx_aiohttp with an unlimited connector; any httpx transport may take its place. This is the only place that
knows which library carries the bytes; faults/transport.py knows what its exceptions mean.
"""

import ssl
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import httpx_aiohttp

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
