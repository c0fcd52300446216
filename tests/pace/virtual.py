"""A time that only sleepers move, for tests of many tasks."""

import heapq
import itertools

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
