"""What carries the bytes: one `httpx.AsyncBaseTransport`, called directly, never through httpx.AsyncClient.

Our own speaks HTTP/1.1 (http1/), since httpx's pool scans every connection several times a request, and at 1,024 in flight
doesn't finish. Any httpx transport may take its place. What a transport's exceptions mean stands in faults/transport.py.
"""

import os
from collections.abc import Mapping

from batchrun.wire.http1.dial import Dialer
from batchrun.wire.http1.transport import Http1Transport
from batchrun.wire.proxy import proxy_for
from batchrun.wire.socks import require_socks
from batchrun.wire.tls import tls_context


def open_transport(url: str, environ: Mapping[str, str] | None = None) -> Http1Transport:
    """A transport without a limit on connections, through the environment's proxy where it names one.

    Proxy and certificates are looked up once. Raises JobError where the environment names what can't be used.
    """
    environ = os.environ if environ is None else environ
    proxy = proxy_for(url, environ)
    if proxy is not None and proxy.is_socks:
        require_socks(proxy)
    secure = url.startswith("https") or (proxy is not None and proxy.scheme == "https")
    return Http1Transport(Dialer(tls_context(environ) if secure else None, proxy), proxy)
