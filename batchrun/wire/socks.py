"""SOCKS proxies, by python-socks: the extra `batchrun[socks]`. Without it nothing is sent at all."""

import importlib.util
import socket

from batchrun.errors import JobError
from batchrun.wire.http1.errors import ProxyDenied, ProxyUnreachable, reason
from batchrun.wire.proxy import Proxy


def require_socks(proxy: Proxy) -> None:
    """Raise JobError where SOCKS can't be spoken: to speak HTTP to such a proxy would show it the key."""
    if importlib.util.find_spec("python_socks") is None:
        raise JobError(
            f"the proxy {proxy.scheme}://{proxy.shown} ({proxy.variable}) speaks SOCKS, which needs an extra: "
            f"pip install 'batchrun[socks]', or unset {proxy.variable}"
        )


async def socks_socket(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A socket that leads through the proxy to host:port. Raises a proxy's error.

    As curl has it: `socks5h` and `socks4a` let the proxy look the name up, the others do that here.
    """
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType  # late: an optional extra
    from python_socks.async_.asyncio import Proxy as Socks

    kind = ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5
    far = proxy.scheme in ("socks5h", "socks4a")
    made = Socks(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=far)
    at = f"the proxy {proxy.shown}"
    try:
        return await made.connect(host, port)
    except ProxyConnectionError as error:
        raise ProxyUnreachable(f"cannot connect to {at}: {reason(error)}") from error
    except (ProxyError, ProxyTimeoutError, OSError) as error:
        said = str(error)
        if "auth" in said.lower():
            raise ProxyDenied(f"{at} wants other credentials ({said})") from error
        raise ProxyUnreachable(f"{at} does not lead to {host}:{port}: {said}") from error
