"""Starts the embedded endpoint as a child process for the length of a `with` block.

A process of its own, so that the endpoint's work is not done in the loop of the run that it answers. Standard library
and msgspec only: it must never import the server.
"""

import os
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from batchrun.embedded.behaviour import Behaviour

TO_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What terminals, `timeout` and service managers send to a run and to all its children."""
_READY_S = 20.0
_EXIT_S = 5.0
_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def embedded_endpoint(behaviour: Behaviour = Behaviour(), ledger: str | None = None) -> Iterator[str]:  # noqa: B008 - frozen
    """Yield the base URL (`http://127.0.0.1:PORT/v1`) of a running endpoint; RuntimeError if it doesn't come up.

    `ledger` is the path of a file to which the endpoint appends one JSON line for each request received and answered.
    The child ignores the signals that end a run, and ends with the block, or with this process, however that ends.
    """
    command = [sys.executable, "-P", "-m", "batchrun.embedded", "--settings", "-"]
    if ledger is not None:
        command += ["--ledger", str(Path(ledger).resolve())]
    child = _spawn(command)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        # By the pipe and not as an argument: a key or a script of faults is no business of `ps`.
        with suppress(BrokenPipeError):
            child.stdin.write(msgspec.json.encode(behaviour) + b"\n")
            child.stdin.flush()
        yield _base_url(child)
    finally:
        with suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _spawn(command: list[str]) -> "subprocess.Popen[bytes]":
    # A blocked signal stays blocked over exec: the child opens up again when it ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TO_THE_GROUP)
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, this package
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True, env=_environment()
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """Make the child's environment, in which it finds this very package."""
    environment = dict(os.environ)
    installed = {Path(path).resolve() for path in [*site.getsitepackages(), site.getusersitepackages()]}
    if _ROOT not in installed:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH")]))
    return environment


def _base_url(child: "subprocess.Popen[bytes]") -> str:
    assert child.stdout is not None
    line, deadline = b"", time.monotonic() + _READY_S
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                child.kill()
                raise RuntimeError(f"the embedded endpoint did not start within {_READY_S:.0f} s")
            part = os.read(child.stdout.fileno(), 4096)
            if not part:
                code = child.wait(_EXIT_S)
                raise RuntimeError(f"the embedded endpoint ended with code {code} before it listened; see stderr")
            line += part
    ready: dict[str, Any] = msgspec.json.decode(line)
    return str(ready["base_url"])
