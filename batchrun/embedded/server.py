"""Runs the embedded endpoint's app under uvicorn: the socket, the signals and the end.

It listens where it is told, loopback unless told otherwise. As a child it must never outlive its parent.
"""

import gc
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from batchrun.embedded.app import build_app
from batchrun.embedded.behaviour import Behaviour
from batchrun.embedded.child import TO_THE_GROUP
from batchrun.embedded.connection import Protocol

__all__ = ["build_app", "run_server"]

_BACKLOG = 8192


class _Server(uvicorn.Server):
    """Tells when it listens; ends in good order on SIGINT and SIGTERM, and returns then instead of raising."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], *, take_signals: bool) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._take_signals = take_signals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if not self._take_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)


def run_server(
    behaviour: Behaviour,
    host: str = "127.0.0.1",
    port: int = 0,
    ledger: str | None = None,
    on_ready: Callable[[str], None] = lambda _base_url: None,
    stop_on_stdin_eof: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, and return then. OSError if the address can't be had.

    `on_ready` gets the base URL (`http://HOST:PORT/v1`) once connections are accepted; port 0 is any free one.
    With `stop_on_stdin_eof` signals are ignored, and the process ends at once when its stdin does: so it lives through
    the Ctrl-C that its parent drains against, and never longer than its parent.
    """
    if stop_on_stdin_eof:
        ignore_signals()
        threading.Thread(target=_exit_with_parent, name="stdin", daemon=True).start()
    _raise_open_files()
    with _listen(host, port) as listener:
        listening = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            build_app(behaviour, ledger),
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=300,
            timeout_graceful_shutdown=2,
        )

        def ready() -> None:
            gc.freeze()  # what is loaded by now stays; the collector need not walk it again
            gc.set_threshold(20_000, 20, 50)
            on_ready(f"http://{shown}:{listening}/v1")

        _Server(config, ready, take_signals=not stop_on_stdin_eof).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    # The protocol has to be named: asyncio sets TCP_NODELAY only where it is, and without it every answer, being two
    # writes, waits 40 ms for the client's delayed ACK.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def ignore_signals() -> None:
    """Ignore what is sent to a whole process group."""
    for number in TO_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    # child.py starts this process with them blocked, so that none can hit before it is ignored.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_THE_GROUP)


def _exit_with_parent() -> None:
    """End the process when stdin ends, or when the parent is gone though a copy of the pipe's other end is not."""
    parent = os.getppid()
    with suppress(OSError, ValueError):
        while os.getppid() == parent:
            readable, _, _ = select.select([0], [], [], 1.0)
            if readable and not os.read(0, 4096):
                break
    os._exit(0)


def _raise_open_files() -> None:
    """One connection, one file: the default soft limit of 1024 is less than a run may want."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
