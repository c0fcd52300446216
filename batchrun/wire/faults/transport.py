"""What an exception of the library that carries the bytes means: was the request sent, and may it have been billed?

One table for httpx, for aiohttp, whose exceptions come through httpx_aiohttp as causes or as they are, and for the system.
An exception is looked up by its class, then by its class's ancestors: the most specific row counts. The table is data:
neither library is imported for it.
"""

import os
import ssl
from typing import NamedTuple

from batchrun.errors import EndpointError, Kind


class Row(NamedTuple):
    """`says` is the message: {why} is what the exception says, {at} is host:port where it knows them. `remedy` is what to do
    about it, where the kind's own advice would lead wrong.
    """

    kind: Kind
    unconfirmed: bool
    says: str
    remedy: str | None = None


PROXY_REMEDY = (
    "give the proxy's own user name and password, as in http://USER:PASSWORD@HOST:PORT, in the variable that names it"
)
_TRUST_REMEDY = (
    "add the certificate of who signed it to the system's store, or name a file that holds it in SSL_CERT_FILE"
)
_PROXY_DOWN = "check the proxy, or take the endpoint out of it with NO_PROXY"


_UNREACHED = Row(Kind.CONNECT, False, "cannot connect{at}: {why}")
_UNTRUSTED = _UNREACHED._replace(remedy=_TRUST_REMEDY)
_NO_PROXY = Row(Kind.CONNECT, False, "cannot connect to the proxy{at}: {why}", _PROXY_DOWN)
_SLOW_TO_CONNECT = Row(Kind.CONNECT, False, "cannot connect: timed out")
_SLOW = Row(Kind.TIMEOUT, True, "no bytes came in time")
_CUT = Row(Kind.DISCONNECTED, True, "connection lost in the middle of the answer")
_LOST = Row(Kind.DISCONNECTED, True, "connection lost: {why}")
_GARBLED = Row(Kind.MALFORMED, True, "not a readable HTTP answer: {why}")
_NO_ADDRESS = Row(Kind.NOT_FOUND, False, "nothing can be sent to this URL: {why}")
_UNSENDABLE = Row(Kind.BAD_REQUEST, False, "the request cannot be sent: {why}")
_MISUSED = Row(Kind.MALFORMED, True, "the answer can't be read: {why}")

TABLE: dict[str, Row] = {
    # httpx: "Exceptions", and httpx/_exceptions.py
    "httpx.ConnectTimeout": _SLOW_TO_CONNECT,
    "httpx.PoolTimeout": _SLOW_TO_CONNECT,
    "httpx.ReadTimeout": _SLOW,
    "httpx.WriteTimeout": _SLOW,
    "httpx.TimeoutException": _SLOW,
    "httpx.ConnectError": _UNREACHED,
    "httpx.ReadError": _LOST,
    "httpx.WriteError": _LOST,
    "httpx.CloseError": _LOST,
    "httpx.NetworkError": _LOST,
    "httpx.ProxyError": _NO_PROXY,
    "httpx.UnsupportedProtocol": _NO_ADDRESS,
    "httpx.LocalProtocolError": _UNSENDABLE,
    "httpx.RemoteProtocolError": _GARBLED,
    "httpx.ProtocolError": _GARBLED,
    "httpx.TransportError": _LOST,
    "httpx.DecodingError": _GARBLED,
    "httpx.TooManyRedirects": _NO_ADDRESS,
    "httpx.RequestError": _LOST,
    "httpx.HTTPStatusError": _GARBLED,
    "httpx.HTTPError": _LOST,
    "httpx.InvalidURL": _NO_ADDRESS,
    "httpx.CookieConflict": _MISUSED,
    "httpx.StreamConsumed": _MISUSED,
    "httpx.StreamClosed": _MISUSED,
    "httpx.ResponseNotRead": _MISUSED,
    "httpx.RequestNotRead": _UNSENDABLE,
    "httpx.StreamError": _MISUSED,
    # those of aiohttp: its reference, "Client exceptions", and its module http_exceptions
    "aiohttp.ClientConnectorCertificateError": _UNTRUSTED,
    "aiohttp.ClientConnectorSSLError": _UNREACHED,
    "aiohttp.ClientSSLError": _UNREACHED,
    "aiohttp.ClientConnectorDNSError": _UNREACHED,
    "aiohttp.ClientProxyConnectionError": _NO_PROXY,
    "aiohttp.UnixClientConnectorError": _UNREACHED,
    "aiohttp.ClientConnectorError": _UNREACHED,
    "aiohttp.ConnectionTimeoutError": _SLOW_TO_CONNECT,
    "aiohttp.SocketTimeoutError": _SLOW,
    "aiohttp.ServerTimeoutError": _SLOW,
    "aiohttp.ServerFingerprintMismatch": Row(Kind.CONNECT, False, "cannot connect: its certificate is another: {why}"),
    "aiohttp.ServerDisconnectedError": _LOST,
    "aiohttp.ServerConnectionError": _LOST,
    "aiohttp.ClientConnectionResetError": _LOST,
    "aiohttp.ClientOSError": _LOST,
    "aiohttp.ClientConnectionError": _LOST,
    "aiohttp.ClientPayloadError": _CUT,
    "aiohttp.UploadAbortedError": _LOST,
    "aiohttp.ClientHttpProxyError": _NO_PROXY,
    "aiohttp.WSServerHandshakeError": _GARBLED,
    "aiohttp.ContentTypeError": _GARBLED,
    "aiohttp.TooManyRedirects": _NO_ADDRESS,
    "aiohttp.ClientResponseError": _GARBLED,
    "aiohttp.InvalidUrlRedirectClientError": _NO_ADDRESS,
    "aiohttp.NonHttpUrlRedirectClientError": _NO_ADDRESS,
    "aiohttp.RedirectClientError": _NO_ADDRESS,
    "aiohttp.InvalidUrlClientError": _NO_ADDRESS,
    "aiohttp.NonHttpUrlClientError": _NO_ADDRESS,
    "aiohttp.InvalidURL": _NO_ADDRESS,
    "aiohttp.ClientError": _LOST,
    "aiohttp.BadHttpMethod": _GARBLED,
    "aiohttp.BadStatusLine": _GARBLED,
    "aiohttp.HttpBadRequest": _GARBLED,
    "aiohttp.InvalidHeader": _GARBLED,
    "aiohttp.InvalidURLError": _GARBLED,
    "aiohttp.LineTooLong": _GARBLED,
    "aiohttp.ContentEncodingError": _GARBLED,
    "aiohttp.DecompressSizeError": _GARBLED,
    "aiohttp.TransferEncodingError": _CUT,
    "aiohttp.ContentLengthError": _CUT,
    "aiohttp.PayloadEncodingError": _GARBLED,
    "aiohttp.BadHttpMessage": _GARBLED,
    "aiohttp.HttpProcessingError": _GARBLED,
    "aiohttp.EofStream": _CUT,
    "aiohttp.WebSocketError": _GARBLED,
    "aiohttp.WSMessageTypeError": _GARBLED,
    # our own transport's, http1/errors
    "batchrun.Unreachable": Row(Kind.CONNECT, False, "{why}"),
    "batchrun.Untrusted": Row(Kind.CONNECT, False, "{why}", _TRUST_REMEDY),
    "batchrun.ProxyUnreachable": Row(Kind.CONNECT, False, "{why}", _PROXY_DOWN),
    "batchrun.ProxyDenied": Row(Kind.CREDENTIALS, False, "{why}", PROXY_REMEDY),
    "batchrun.Unread": Row(Kind.DISCONNECTED, False, "{why}"),
    "batchrun.Cut": Row(Kind.DISCONNECTED, True, "{why}"),
    # the system's, from a transport that translates none of them
    "ssl.SSLCertVerificationError": _UNTRUSTED,
    "ssl.SSLError": _LOST,
    "socket.gaierror": _UNREACHED,
    "builtins.ConnectionRefusedError": _UNREACHED,
    "builtins.TimeoutError": _SLOW,
    "builtins.OSError": _LOST,
}


def translated(error: Exception) -> EndpointError | None:
    """A transport's exception as an EndpointError; None for what no transport raises.

    httpx_aiohttp calls every lost connection a ConnectTimeout, so aiohttp's own exception is asked where it is the cause.
    """
    cause = error.__cause__
    if isinstance(cause, Exception) and name_of(type(cause)).startswith("aiohttp."):
        error = cause
    row = next((TABLE[name] for name in map(name_of, type(error).__mro__) if name in TABLE), None)
    if row is None:
        return None
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    at = f" to {host}:{port}" if host else ""
    at = at.removeprefix(" to") if row is _NO_PROXY else at
    message = row.says.format(at=at, why=_why(error))
    return EndpointError(row.kind, message, unconfirmed=row.unconfirmed, remedy=row.remedy)


def name_of(kind: type) -> str:
    """`aiohttp.InvalidURL` for aiohttp.client_exceptions.InvalidURL: the library and the class."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _why(error: BaseException) -> str:
    """What the system or the library says, without other words around it."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {inner.verify_message or inner}"
    if isinstance(inner, ssl.SSLError):  # its number is OpenSSL's, not the system's
        return f"TLS failed: {(inner.reason or str(inner)).replace('_', ' ').lower()}"
    if isinstance(inner, OSError) and inner is not error:
        # a name that can't be resolved has a number below 0, several addresses have none: those tell in words
        return os.strerror(inner.errno) if inner.errno and inner.errno > 0 else inner.strerror or str(inner)
    return str(error) or type(error).__name__
