"""What a call that warm.py forks may find otherwise than usual. An order has the names of those that it wants:

umask, user     the call's own (`user` is a uid)
haste           the time of its event loop passes so many times as fast, for a call that would only wait
ignored         names of signals that it ignores, as under nohup
file_bytes      a limit on the size of its files
jump_s          how far its wall clock jumps, and comes back
shard_requests  a small shard, so that few rows seal, merge and reopen
fuse, torn      it dies at so many changes to the disk
traced          it stands still until a tracer has taken hold of it
at              the instant of the monotonic clock at which it begins
"""

import asyncio
import ctypes
import datetime
import os
import resource
import selectors
import signal
import sys
import time
from typing import Any

PR_SET_PTRACER = 0x59616D61


def surround(order: dict[str, Any]) -> None:
    """Make this process's surroundings what the order says, and come back when it may begin."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    for name in order.get("ignored", ()):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    if order.get("umask") is not None:
        os.umask(order["umask"])
    if order.get("user") is not None:
        os.setuid(order["user"])
    if size := order.get("file_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if order.get("haste"):
        hasten(order["haste"])
    if order.get("jump_s"):
        set_clock(order["jump_s"])
    if order.get("shard_requests"):
        set_shard(order["shard_requests"])
    if order.get("fuse"):
        set_fuse(order["fuse"], order.get("torn", False))
    if order.get("traced"):
        await_tracer()
    while time.monotonic() < order.get("at", 0.0):
        time.sleep(0.0005)


def set_shard(requests: int) -> None:
    from batchrun.runner import assembly

    assert isinstance(assembly.SHARD_REQUESTS, int)
    assembly.SHARD_REQUESTS = requests


def hasten(times: float) -> None:
    """Let the time of event loops pass so many times as fast: waits and limits of time become shorter by as much."""
    select, monotonic = selectors.DefaultSelector.select, time.monotonic

    def sooner(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        return select(self, timeout / times if timeout is not None and timeout > 0 else timeout)

    selectors.DefaultSelector.select = sooner  # type: ignore[method-assign, assignment]
    asyncio.BaseEventLoop.time = lambda _self: monotonic() * times  # type: ignore[method-assign]


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
