"""Calls of `batchrun` in forks of a warm process, as the tests start, signal and await them; warm.py is that process."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WARM = Path(__file__).with_name("warm.py")
USUAL = {"env": None, "in": None, "session": False, "terminal": None, "ends_after_s": 90}
HEARD_S = 30


class Warm:
    """Starts calls, from any thread."""

    def __init__(self, source: "subprocess.Popen[bytes]") -> None:
        self.pid = source.pid
        self._source = source
        self._asking = threading.Lock()
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._heard = threading.Condition()
        self._codes: dict[int, int] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._source.stdout is not None
        for line in self._source.stdout:
            pid, *code = map(int, line.split())
            with self._heard:
                if code:
                    self._codes[pid] = code[0]
                    self._heard.notify_all()
                else:  # the number may have been another call's
                    self._codes.pop(pid, None)
                    self._started.put(pid)

    def start(self, *args: object, cwd: Path, out: str | None, err: str | None, **more: Any) -> int:
        """Fork a call of `batchrun ARGS…`; its process id. `more` is what warm.py and surroundings.py know besides."""
        order = {**USUAL, "args": [*map(str, args)], "cwd": str(cwd), "out": out, "err": err, **more}
        assert self._source.stdin is not None
        with self._asking:
            self._source.stdin.write(json.dumps(order).encode() + b"\n")
            self._source.stdin.flush()
            return self._started.get(timeout=HEARD_S)

    def code(self, pid: int, timeout_s: float | None = None) -> int | None:
        """How a call ended: its exit code, or the signal as a negative number; None if it has not by then."""
        with self._heard:
            self._heard.wait_for(lambda: pid in self._codes, timeout_s)
            return self._codes.get(pid)

    def close(self) -> None:
        assert self._source.stdin is not None
        self._source.stdin.close()
        self._listener.join()


class Call:
    """A call under way, with the face of subprocess.Popen."""

    def __init__(self, warm: Warm, pid: int, out: Path, err: Path) -> None:
        self._warm = warm
        self.pid = pid
        self._out = out
        self._err = err

    def poll(self) -> int | None:
        """The exit code, None while it lives."""
        return self._warm.code(self.pid, 0)

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it lives."""
        return self.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, at the end."""
        code = self._warm.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("batchrun", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has said on standard output and standard error, at the end."""
        self.wait(timeout)
        return self._out.read_text(errors="replace"), self._err.read_text(errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        """Send it to the call alone, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anybody's key, in which the package under test is found from any folder, and need
    not be compiled by every interpreter that a test starts.
    """
    left_out = ("_API_KEY", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.endswith(left_out)}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


@contextlib.contextmanager
def warmed(prefix: Sequence[str] = ()) -> Iterator[Warm]:
    """A warm process; `prefix` is a command that starts it in some surroundings."""
    line = [*prefix, sys.executable, str(WARM)]
    with subprocess.Popen(line, env=environment(), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as source:
        warm = Warm(source)
        try:
            yield warm
        finally:
            warm.close()
