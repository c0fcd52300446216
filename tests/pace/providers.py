"""Endpoints that limit, in virtual time, each as a kind of provider counts: what they state and when they refuse."""

import math
from collections.abc import Callable

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Request, StatedLimit, Usage
from virtual import FakeClock


class Evenly:
    """A counter that fills evenly up to `limit` in `window_s` (OpenAI, Groq)."""

    def __init__(self, limit: float, window_s: float = 60.0) -> None:
        self.limit, self.window_s = limit, window_s
        self._level, self._then = limit, 0.0

    def look(self, now: float) -> tuple[float, float]:
        self._level = min(self.limit, self._level + (now - self._then) * self.limit / self.window_s)
        self._then = now
        return self._level, (self.limit - self._level) * self.window_s / self.limit

    def wait_s(self, units: float, now: float) -> float:
        return max(0.0, (units - self.look(now)[0]) * self.window_s / self.limit)

    def take(self, units: float) -> None:
        self._level -= units


class Windowed:
    """A counter that starts again with each window (relays, LiteLLM)."""

    def __init__(self, limit: float, window_s: float = 60.0) -> None:
        self.limit, self.window_s = limit, window_s
        self._used, self._window = 0.0, -1

    def look(self, now: float) -> tuple[float, float]:
        window = int(now // self.window_s)
        if window != self._window:
            self._used, self._window = 0.0, window
        return self.limit - self._used, (window + 1) * self.window_s - now

    def wait_s(self, units: float, now: float) -> float:
        left, reset_s = self.look(now)
        return 0.0 if units <= left else reset_s

    def take(self, units: float) -> None:
        self._used += units


class Provider:
    """Answers after `takes_s`; `counters` by unit. `usage` says what a request takes, `charge` what it is charged with at
    admission, which is settled when it is answered. Headers go to `hear`; `refused` counts its 429s.
    """

    def __init__(
        self,
        clock: FakeClock,
        counters: dict[str, Evenly | Windowed],
        *,
        usage: Callable[[Request], Usage] = lambda _request: Usage(50, 20, 70),
        charge: Callable[[Request], float] | None = None,
        takes_s: float = 0.5,
    ) -> None:
        self.clock, self.counters, self.takes_s = clock, counters, takes_s
        self.usage = usage
        self.charge = charge or (lambda request: usage(request).total)
        self.hear: Callable[[list[StatedLimit]], None] = lambda _limits: None
        self.refused = 0
        self.starts: list[tuple[float, int]] = []

    async def complete(self, request: Request) -> Answer:
        now = self.clock.now()
        cost = {"requests": 1.0, "tokens": self.charge(request)}
        wait_s = max((one.wait_s(cost[unit], now) for unit, one in self.counters.items()), default=0.0)
        if wait_s > 0:
            self.refused += 1
            self.tell()
            raise EndpointError(Kind.RATE_LIMITED, "slow down", status=429, retry_after_s=math.ceil(wait_s))
        for unit, one in self.counters.items():
            one.take(cost[unit])
        usage = self.usage(request)
        self.starts.append((now, usage.total))
        await self.clock.sleep(self.takes_s)
        if "tokens" in self.counters:
            self.counters["tokens"].take(usage.total - cost["tokens"])
        self.tell()
        return Answer("x", usage)

    def tell(self) -> None:
        stated = []
        for unit, one in self.counters.items():
            remaining, reset_s = one.look(self.clock.now())
            stated.append(StatedLimit(unit, one.limit, max(0, int(remaining)), reset_s))
        self.hear(stated)

    def most_in_a_minute(self) -> int:
        """The most tokens that any window of 60 s saw admitted."""
        starts = sorted(self.starts)
        return max(sum(total for at, total in starts if first <= at < first + 60.0) for first, _ in starts)
