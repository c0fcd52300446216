"""What can go wrong below HTTP, each a subclass of httpx's own; what they mean to an attempt stands in faults/transport.py."""

import os
import ssl

import httpx


class Unreachable(httpx.ConnectError):
    """No connection, or none that can be spoken on: nothing was sent."""


class Untrusted(Unreachable):
    """The certificate of the other side is signed by nobody who is trusted."""


class ProxyUnreachable(httpx.ProxyError):
    """The proxy can't be reached, or does not lead on."""


class ProxyDenied(httpx.ProxyError):
    """The proxy wants other credentials."""


class Unread(httpx.WriteError):
    """The connection was closed by the other side before it had read the request whole."""


class Cut(httpx.ReadError):
    """The connection was lost within an answer."""


def reason(error: OSError) -> str:
    """Why there is no connection, in the system's words alone."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message or error}"
    if isinstance(error, ssl.SSLError):  # its number is OpenSSL's, not the system's
        said = error.reason or str(error)
        if "NO_APPLICATION_PROTOCOL" in said:
            return "TLS failed: it does not speak HTTP/1.1 there, perhaps HTTP/2 alone"
        if said in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
            return f"TLS failed: {said.replace('_', ' ').lower()}; perhaps the port speaks plain HTTP: http://…"
        return f"TLS failed: {said.replace('_', ' ').lower()}"
    # a name that can't be resolved has a number below 0, several addresses have none: those tell in words
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error) or "closed"
