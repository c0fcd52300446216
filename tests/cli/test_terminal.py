"""A terminal that goes away under a run, and what else signals a run more than once (contract.md §3)."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.ledger.run_dir import RunDir
from forks import Call
from terminals import Terminal, program, until

ROWS = 400
IN_FLIGHT = 8


def need(program: str) -> None:
    """Skips where a program is missing; where the suite is the judge (CI) that is a failure."""
    if shutil.which(program) is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{program} is not installed: no run can be ended by it")


@pytest.fixture
def job(start: Callable[..., Any]) -> Any:
    """A run that is answered slowly enough to be met with requests in flight."""
    made = start(slots=IN_FLIGHT, first_token_s=0.4)
    made.rows(range(ROWS))
    return made


def assert_drained(job: Any) -> None:
    """Everything that was sent has been waited for, and the run says that it stopped by a signal."""
    run_dir = RunDir(str(job.out))
    until(lambda: not run_dir.locked_by_another(), "the run does not end")
    seen, shown = job.endpoint.stats(), job.status()
    assert 0 < seen["ok"] == seen["received"] < ROWS, "what was in flight was lost"
    assert (shown["state"], shown["done"], shown["in_flight"]) == ("stopped", seen["ok"], 0)
    assert "interrupted by SIG" in shown["message"]


def test_a_closed_terminal_drains(job: Any, on_terminal: Callable[..., Terminal]) -> None:
    """The bar stands on a terminal that is closed: what is in flight is waited for, what can't be shown is not shown, and
    the code is that of the signal."""
    shown = on_terminal(*job.args("--concurrency", IN_FLIGHT), cwd=job.folder)
    seen = bytearray()
    until(lambda: bool(seen.extend(shown.read()) or job.endpoint.received > IN_FLIGHT), "the run does not get on")
    assert b"req/s" in seen
    shown.close()
    assert shown.process.wait(timeout=30) == 143
    assert_drained(job)


def test_a_closed_terminal_under_a_shell_drains(
    job: Any, terminal: Callable[..., Terminal], command: Callable[..., tuple[list[str], dict[str, str]]]
) -> None:
    """An interactive shell passes SIGHUP on, and the kernel sends another one when it has gone: one wish."""
    need("bash")
    line, environ = command(*job.args("--concurrency", IN_FLIGHT))
    shown = terminal(program(["bash", "--norc", "-i"], cwd=job.folder, env=environ))
    shown.type(f"{shlex.join(line)}\n")
    until(lambda: bool(shown.read()) and job.endpoint.received > IN_FLIGHT, "the run does not get on")
    shown.close()
    shown.process.wait(timeout=30)
    assert_drained(job)


def test_a_multiplexer_whose_session_is_ended_drains(
    job: Any, command: Callable[..., tuple[list[str], dict[str, str]]]
) -> None:
    """The session of a terminal multiplexer is ended, with a shell in it and the run in that: what is in flight is kept."""
    need("tmux")
    need("bash")
    line, environ = command(*job.args("--concurrency", IN_FLIGHT))
    with tempfile.TemporaryDirectory() as short:  # a socket's name may have a hundred characters
        tmux = ["tmux", "-S", str(Path(short) / "s"), "-f", "/dev/null"]
        where: dict[str, Any] = {"cwd": job.folder, "env": environ, "check": True, "timeout": 20}
        subprocess.run([*tmux, "new-session", "-d", "-s", "night", "bash --norc -i"], **where)
        try:
            subprocess.run([*tmux, "send-keys", "-t", "night", shlex.join(line), "Enter"], **where)
            until(lambda: job.endpoint.received > IN_FLIGHT, "the run does not get on")
            subprocess.run([*tmux, "kill-session", "-t", "night"], **where)
            assert_drained(job)
        finally:
            subprocess.run([*tmux, "kill-server"], stderr=subprocess.DEVNULL, timeout=20, check=False)


@contextlib.contextmanager
def killed_at_the_end(process: Call) -> Iterator[Call]:
    """Nothing of a test that fails lives on."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)


def test_signals_to_the_run_and_to_its_group_drain(job: Any) -> None:
    """`timeout` signals its child, and then the whole group; a service manager may add a SIGHUP: one wish, drained, 143."""
    line = job.args("--concurrency", IN_FLIGHT, "--quiet")
    with killed_at_the_end(job.begin(*line, cwd=job.folder, session=True)) as process:
        until(lambda: job.endpoint.received > IN_FLIGHT, "the run does not get on")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.killpg(process.pid, number)
            time.sleep(0.03)  # so that each is taken by itself
        assert process.wait(timeout=30) == 143
    assert_drained(job)


def test_a_signal_to_the_group_while_the_embedded_endpoint_starts(tmp_path: Path, begin: Callable[..., Call]) -> None:
    """A run's own endpoint lives through what is sent to the group, from its first moment: the run ends by the signal and
    not by a fault of its own."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "What is 1 + 1?"}\n' * 5)
    line = ("run", "rows.jsonl", "--base-url", "embedded:", "--model", "m", "-o", "out")
    with killed_at_the_end(begin(*line, cwd=tmp_path, session=True)) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: children.read_text() != "", "no endpoint is started")
        os.killpg(process.pid, signal.SIGTERM)
        _out, said = process.communicate(timeout=30)
        assert process.wait() == 143, said
