"""Embedded endpoints for tests, as forks of one process that has the server loaded: one costs a fraction of a new interpreter.

Imported, it is the tests' side: `Endpoints`. Run as a script it is that process: it reads one JSON order a line (`settings`,
`ledger`) and answers with the process id and the base URL of the endpoint that it has forked. Each is a process of its own,
and ends by SIGKILL, or with the process that forked it.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batchrun.embedded import Behaviour

if TYPE_CHECKING:
    import httpx

READY_S = 30


class Endpoints:
    """Starts endpoints: `with endpoints.serving(Behaviour(slots=4)) as url`."""

    def __init__(self, source: "subprocess.Popen[bytes]") -> None:
        self._source = source

    @contextlib.contextmanager
    def serving(self, behaviour: Behaviour = Behaviour(), ledger: Path | None = None) -> Iterator[str]:  # noqa: B008 - frozen
        """Yield the base URL of an endpoint that behaves so, like `embedded_endpoint`."""
        order = {"settings": msgspec.to_builtins(behaviour), "ledger": ledger and str(ledger)}
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        self._source.stdin.write(json.dumps(order).encode() + b"\n")
        self._source.stdin.flush()
        pid, url = json.loads(self._source.stdout.readline())
        assert url, "the endpoint did not start"
        try:
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def patient_client() -> "httpx.Client":
    """A client for looks at an endpoint's books: each on a connection of its own, which a busy endpoint comes to behind all
    that a run that is dead by now had sent. It loads no certificates, which would take longer than hundreds of looks.
    """
    import httpx  # the tests' side alone: no endpoint needs it

    return httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


@contextlib.contextmanager
def endpoints(environ: Mapping[str, str]) -> Iterator[Endpoints]:
    """The process from which endpoints are forked."""
    line = [sys.executable, __file__]
    with subprocess.Popen(line, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as source:
        yield Endpoints(source)
        assert source.stdin is not None
        source.stdin.close()


def serve(order: dict[str, str], told: int) -> None:
    """Be an endpoint; its URL goes to the descriptor `told`."""
    from batchrun.embedded.server import run_server

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    waiting, held = os.pipe()  # standard input that neither ends nor says anything
    os.dup2(waiting, 0)
    os.set_inheritable(held, False)
    behaviour = msgspec.convert(order["settings"], Behaviour)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def ready(url: str) -> None:
        os.write(told, url.encode())
        os.close(told)

    run_server(behaviour, ledger=order["ledger"], on_ready=ready, stop_on_stdin_eof=True)


def main() -> None:
    import batchrun.embedded.server  # noqa: F401 - what each fork needs

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        hear, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(hear)
            serve(json.loads(line), tell)
            os._exit(0)
        os.close(tell)
        url = os.read(hear, 4096).decode()
        os.close(hear)
        os.write(1, json.dumps([pid, url]).encode() + b"\n")


if __name__ == "__main__":
    main()
