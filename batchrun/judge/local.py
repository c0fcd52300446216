"""Whether a server stands on this machine or in a private network: no cloud's price holds for what it answers.

Told by the URL alone; no name is looked up.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

_PRIVATE_NAMES = (
    ".localhost",
    ".local",
    ".localdomain",
    ".lan",
    ".home",
    ".internal",
    ".intranet",
    ".corp",
    ".private",
    ".home.arpa",
    ".svc",
)
"""Names that no public name server answers: RFC 6761, 6762, 8375, ICANN's `.internal`, and what networks use of their own."""
EMBEDDED = "embedded:"


def is_local(url: str) -> bool:
    """`url` is a URL, or a host with or without a port. A name without a dot is one of a network's own."""
    if url.startswith(EMBEDDED):
        return True
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname
    except ValueError:
        return False
    if not host:
        return True
    host = host.rstrip(".").partition("%")[0]
    address = _address(host)
    if address is not None:
        return not address.is_global
    return "." not in host or host.endswith(_PRIVATE_NAMES)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        if not host[:1].isdigit():
            return None
        try:  # what a resolver takes as well: 127.1, 0x7f000001, 2130706433
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = getattr(found, "ipv4_mapped", None)
    return found if mapped is None else mapped
