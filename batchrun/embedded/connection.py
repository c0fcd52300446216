"""The connection under a request: what ASGI can't say about it, and uvicorn's protocol with a handle to it.

A fault has to break the transport, and a queued answer has to notice that nobody waits for it any more. Nothing else
may touch the transport.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_KEY = "batchrun.embedded.connection"


class ClientGone(Exception):  # noqa: N818 - an event, not an error of anybody's
    """The client closed its connection before its answer was complete."""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also hands itself to the app."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[_KEY] = self


def open_connections(scope: Scope) -> int | None:
    protocol = scope.get(_KEY)
    return None if protocol is None else len(protocol.connections)


def is_gone(scope: Scope) -> bool:
    protocol = scope.get(_KEY)
    return protocol is not None and bool(protocol.transport.is_closing())


async def break_off(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """End the connection: with a reset, which drops what is not sent yet, or closed behind what is.

    Returns when the server has noticed, so that the app may return without an answer and is not blamed for it.
    """
    protocol = scope.get(_KEY)
    if protocol is None:
        raise RuntimeError("faults that break a connection need the server of batchrun.embedded")
    transport: Any = protocol.transport
    if reset:
        # With a linger time of zero the kernel sends RST instead of FIN.
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    await _disconnect(receive)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Run the block; raise ClientGone within it as soon as the client is gone. For blocks that wait."""
    try:
        async with asyncio.timeout(None) as scope:

            async def watch() -> None:
                await _disconnect(receive)
                scope.reschedule(0)  # a time long past: the block is cancelled now

            watcher = asyncio.create_task(watch())
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError as error:
        raise ClientGone from error
