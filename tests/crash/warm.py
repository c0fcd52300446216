"""Runs `batchrun` again and again in forks of one warm process: a call costs a fraction of a new interpreter's.

Reads one JSON order a line and forks; says `PID` when a fork starts and `PID CODE` when it has ended (negative: the
signal). A fork may wait for its tracer or for an instant, ignore signals as under nohup, have a limit on the size of its
files, a small shard so that few rows seal, merge and reopen, a wall clock that jumps, and a fuse after which it dies.
"""

import contextlib
import ctypes
import datetime
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import batchrun.cli
import batchrun.runner.assembly

PR_SET_PTRACER = 0x59616D61


def await_tracer() -> None:
    """Stand still until the tracer has taken hold, and whoever has started it lets this process go on."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def set_clock(jump_s: float) -> None:
    """From the tenth look on the clock shows another hour; the thirtieth brings it back."""
    real, real_datetime = time.time, datetime.datetime
    looks = 0

    def shown() -> float:
        nonlocal looks
        looks += 1
        return real() + (jump_s if 10 <= looks < 30 else 0.0)

    class Shown(real_datetime):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real_datetime.fromtimestamp(shown(), tz)

    time.time = shown
    time.time_ns = lambda: int(shown() * 1e9)
    datetime.datetime = Shown  # type: ignore[misc]


def set_fuse(left: int, torn: bool) -> None:
    """SIGKILL at the `left`-th change to the disk: just before it, or in the midst of it if it is a write.

    Counted are journal records and files opened for writing, renamed or removed; not what pyarrow and sqlite do inside.
    """
    write = os.write

    def burn(data: bytes | None = None, handle: int = -1) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if torn and data is not None:
                write(handle, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    def written(handle: int, data: bytes) -> int:
        burn(data, handle)
        return write(handle, data)

    def seen(event: str, args: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
            burn()

    os.write = written
    sys.addaudithook(seen)


def prepare(order: dict[str, Any]) -> None:
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(order["cwd"])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    for name in order["ignored"]:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    if order["file_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    if order["jump_s"]:
        set_clock(order["jump_s"])
    batchrun.runner.assembly.SHARD_REQUESTS = order["shard_requests"]
    if order["fuse"]:
        set_fuse(order["fuse"], order["torn"])
    if order["traced"]:
        await_tracer()
    while time.monotonic() < order["at"]:
        time.sleep(0.0005)


def child(order: dict[str, Any]) -> int:
    prepare(order)
    sys.argv = ["batchrun", *order["args"]]
    try:
        batchrun.cli.main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 98
    finally:
        if order["teach"]:
            Path(order["teach"]).write_text("\n".join(sys.modules))
    return 0


def learn(names: str) -> None:
    """Load what a run has loaded, so that no later fork has to."""
    for name in names.splitlines():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def start(line: str) -> tuple[int, dict[str, Any]]:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = child(order)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return pid, order


def main() -> None:
    assert isinstance(batchrun.runner.assembly.SHARD_REQUESTS, int)
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking)
    running: dict[int, dict[str, Any]] = {}
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                order = running.pop(pid)
                if order["teach"]:
                    learn(Path(order["teach"]).read_text())
                os.write(answers, b"%d %d\n" % (pid, os.waitstatus_to_exitcode(status)))
        if 0 in ready:
            line = sys.stdin.buffer.raw.readline().decode()  # type: ignore[attr-defined]
            if not line:
                return
            pid, order = start(line)
            running[pid] = order
            os.write(answers, b"%d\n" % pid)


if __name__ == "__main__":
    main()
