"""The proxy that the environment names for a URL: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, and what NO_PROXY takes out.

Read as curl reads them. HTTP_PROXY in capitals is heeded too, since nobody runs this within a CGI.
"""

import base64
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from batchrun.errors import JobError

_PORTS = {"http": 3128, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


class Proxy(NamedTuple):
    """A proxy, and the variable that names it."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str | None
    variable: str

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def shown(self) -> str:
        """host:port, without credentials."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authorization(self) -> bytes:
        """The header line with its credentials, empty where it has none."""
        if self.username is None:
            return b""
        pair = f"{self.username}:{self.password or ''}".encode()
        return b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(pair)


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL, or None. Raises JobError for one that can't be used."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    wanted = (f"{parts.scheme}_proxy", "all_proxy")
    names = [name for one in wanted for name in (one, one.upper()) if environ.get(name, "").strip()]
    if not names or is_excepted(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return _read(environ[names[0]].strip(), names[0])


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY's list takes host:port out: `*`, a name and all below it, an address, a network; each with a port or
    without.
    """
    return any(_matches(host.lower().rstrip("."), port, one) for one in exceptions.replace(",", " ").split())


def _matches(host: str, port: int, pattern: str) -> bool:
    if pattern == "*":
        return True
    name, stated = _split_port(pattern.lower())
    if stated is not None and stated != port:
        return False
    name = name.strip("[]").removeprefix("*").strip(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return host == name or host.endswith(f".{name}")


def _split_port(pattern: str) -> tuple[str, int | None]:
    """An entry's name and port; an IPv6 address has one only behind its brackets."""
    name, colon, port = pattern.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        return name, int(port)
    return pattern, None


def _read(text: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise JobError(f"{variable} is not a proxy's URL: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        known = ", ".join(_PORTS)
        raise JobError(f"{variable} names a proxy that can't be used ({parts.scheme}://…); known are {known}")
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], username, password, variable)
