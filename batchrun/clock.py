"""The one clock: the event loop's seconds for waiting, epoch seconds for records, and sleep. Tests inject their own."""

import asyncio
import datetime
import time
from typing import Protocol

import anyio


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds."""

    def epoch(self) -> float:
        """Seconds since the epoch, UTC."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The running event loop's clock, which is also that of `anyio.sleep` and of every deadline: a wait that was computed
    with `now` ends when it should on any loop, also on one whose time is virtual. Not to be asked outside of a loop.
    """

    def now(self) -> float:
        # what anyio.current_time() says, for a third of its cost: this is asked several times an attempt
        return asyncio.get_running_loop().time()

    def epoch(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


def moment(epoch: float, seconds: float) -> str:
    """When it will be so many seconds after `epoch` (seconds since 1970), by the local time: `14:30:05`, `09:00 tomorrow`,
    `09:00 on 2026-12-01`.
    """
    now = datetime.datetime.fromtimestamp(epoch).astimezone()
    then = datetime.datetime.fromtimestamp(epoch + seconds).astimezone()
    days = (then.date() - now.date()).days
    if days == 0:
        return f"{then:%H:%M:%S}"
    return f"{then:%H:%M} tomorrow" if days == 1 else f"{then:%H:%M} on {then:%Y-%m-%d}"
