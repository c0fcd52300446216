"""The table of transport errors: complete for what the two libraries can raise, the most specific row first."""

import inspect
import types

import aiohttp
import aiohttp.http_exceptions
import httpx
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.wire.faults.transport import TABLE, name_of, translated


def raised_by(*modules: types.ModuleType) -> set[type[Exception]]:
    """Every exception class in these modules that is their library's own; a warning is no fault."""
    return {
        found
        for module in modules
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__.partition(".")[0] == module.__name__.partition(".")[0]
    }


LIBRARIES = [raised_by(httpx), raised_by(aiohttp, aiohttp.client_exceptions, aiohttp.http_exceptions)]


@pytest.mark.parametrize("classes", LIBRARIES, ids=["httpx", "aiohttp"])
def test_every_exception_of_both_libraries_has_a_row(classes: set[type[Exception]]) -> None:
    """A class without a row of its own is a gap, also where an ancestor has one; a new release shows here."""
    assert len(classes) > 20
    assert {name_of(one) for one in classes} - TABLE.keys() == set()


def test_no_row_is_for_a_class_that_is_not_there() -> None:
    """A row that no class of an installed library meets is a spelling mistake."""
    known = {name_of(one) for classes in LIBRARIES for one in classes}
    assert {name for name in TABLE if name.startswith(("httpx.", "aiohttp."))} <= known


def caused(cause: Exception) -> Exception:
    """As httpx_aiohttp raises it: a class of httpx that says little, and aiohttp's as the cause."""
    error = httpx.ConnectTimeout("")
    error.__cause__ = cause
    return error


ROWS = [
    (httpx.ConnectError("refused"), Kind.CONNECT, False, "cannot connect: refused"),
    (httpx.PoolTimeout("x"), Kind.CONNECT, False, "cannot connect: timed out"),
    (httpx.ReadTimeout("x"), Kind.TIMEOUT, True, "no bytes came in time"),
    (httpx.ProxyError("407"), Kind.CONNECT, False, "cannot connect to the proxy: 407"),
    (httpx.UnsupportedProtocol("ftp"), Kind.NOT_FOUND, False, "nothing can be sent to this URL: ftp"),
    (caused(aiohttp.ServerDisconnectedError()), Kind.DISCONNECTED, True, "connection lost: Server disconnected"),
    (caused(aiohttp.ClientPayloadError("x")), Kind.DISCONNECTED, True, "connection lost in the middle of the answer"),
    (caused(aiohttp.ConnectionTimeoutError("x")), Kind.CONNECT, False, "cannot connect: timed out"),
    (caused(aiohttp.SocketTimeoutError("x")), Kind.TIMEOUT, True, "no bytes came in time"),
    (ConnectionRefusedError(111, "refused"), Kind.CONNECT, False, "cannot connect: [Errno 111] refused"),
    (ConnectionResetError("gone"), Kind.DISCONNECTED, True, "connection lost: gone"),
]


@pytest.mark.parametrize(("error", "kind", "unconfirmed", "says"), ROWS, ids=lambda value: type(value).__name__)
def test_the_most_specific_row_counts(error: Exception, kind: Kind, unconfirmed: bool, says: str) -> None:
    """aiohttp's own class says more than the one that httpx_aiohttp makes of it; a subclass more than its parent."""
    fault = translated(error)
    assert fault is not None
    assert (fault.kind, fault.unconfirmed, fault.message) == (kind, unconfirmed, says)


def test_a_subclass_that_nobody_listed_is_taken_as_its_parent() -> None:
    """Another transport's own exception, built upon one of httpx's, means what its parent means."""

    class NoRoute(httpx.ConnectError):
        pass

    fault = translated(NoRoute("no route"))
    assert fault is not None
    assert fault.kind is Kind.CONNECT


def test_what_no_transport_raises_is_no_fault_of_the_wire() -> None:
    """A mistake in the program is not taken for a lost connection."""
    assert translated(ZeroDivisionError()) is None
    assert not isinstance(translated(KeyError("x")), EndpointError)
