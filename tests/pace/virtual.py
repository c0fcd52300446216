"""A time that only sleepers move, for tests of many tasks."""

import asyncio
import heapq
import itertools
import selectors

import anyio
import anyio.lowlevel


class FakeClock:
    """Virtual time for many tasks: when all sleep, the earliest wakes and time is its own."""

    def __init__(self) -> None:
        self.time = 100.0
        self._sleepers: list[tuple[float, int]] = []
        self._order = itertools.count()
        self._stirs = 0

    def now(self) -> float:
        return self.time

    def epoch(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        mine = (self.time + seconds, next(self._order))
        heapq.heappush(self._sleepers, mine)
        self._stirs += 1
        while True:
            stirs = self._stirs
            for _ in range(8):  # whoever is awake goes first
                await anyio.lowlevel.checkpoint()
            if self._stirs == stirs and self._sleepers[0] == mine:
                heapq.heappop(self._sleepers)
                self._stirs += 1
                self.time = max(self.time, mine[0])
                return


class _Selector(selectors.DefaultSelector):
    """Never waits: where nothing is ready, time is that of the next timer."""

    now = 100.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nobody sleeps and nobody runs: they wait for each other"
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, for long stories of many tasks: an hour takes as long as what happens in it."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock:
    """The clock of a VirtualLoop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def epoch(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
