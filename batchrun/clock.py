"""The one clock: the event loop's seconds for waiting, epoch seconds for records, and sleep. Tests inject their own."""

import asyncio
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
