"""How many at once and how often: a wrapper that holds an attempt until it may go on the wire.

A row that backs off holds no place: places are taken for an attempt, not for a request. A rate limit pauses everybody,
for as long as the endpoint states, and never shortens a longer pause; those who wait don't come back in step.
"""

import random
from collections.abc import Callable

import anyio

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.events import Hear, Learnt, Waiting, nobody
from batchrun.pace.meters import Meters, Taken
from batchrun.records import Answer, Complete, Request, StatedLimit

_LOOK_AGAIN_S = 0.25
_SPREAD = 0.1
_LEAST_SPREAD_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 1.0
_LONG_WAIT_S = 20.0


class Limits:
    """`concurrency` attempts in flight at most, `requests_per_minute` attempts started and `tokens_per_minute` taken.

    Starts are evenly spaced, which suits endpoints that count by the second, and a little wider than the rate asks for
    (0.2 %, by tokens 2 %): so any window of a minute stays within it. `bound` is the most tokens that a request's answer
    may have, None where nothing bounds it. `check` raises for a request that is to wait no longer: it takes nothing from
    the limits. `hear` is told of a stated wait that a person may wonder at, and of limits that are learnt.
    """

    def __init__(
        self,
        concurrency: int,
        requests_per_minute: float | None,
        clock: Clock,
        *,
        tokens_per_minute: float | None = None,
        bound: Callable[[Request], int | None] = lambda _request: None,
        check: Callable[[Request], None] = lambda _request: None,
        hear: Hear = nobody,
    ) -> None:
        self._places = anyio.Semaphore(concurrency, fast_acquire=True)
        self._meters = Meters(requests_per_minute, tokens_per_minute, bound, clock)
        self._check = check
        self._hear = hear
        self._clock = clock
        self._turn = anyio.Lock()
        self._paused_until = self._spread_s = 0.0
        self._strikes = 0
        self._struck_at = 0.0
        self.in_flight = 0

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            await self._places.acquire()
            try:
                if self._meters.active or self._paused_until:
                    taken = await self._start(request)
                    if taken is not None:
                        return await self._settled(inner, request, taken)
                else:
                    self._check(request)
                return await self._counted(inner, request)
            finally:
                self._places.release()

        return complete

    def pause(self, seconds: float) -> None:
        """Let nothing start for so long. A shorter pause never shortens a longer one."""
        until = self._clock.now() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._spread_s = max(_SPREAD * seconds, min(seconds, _LEAST_SPREAD_S))

    def learn(self, model: str, limits: list[StatedLimit]) -> None:
        """Keep the limits that the endpoint states with an answer of a model; they never raise what the user allows."""
        if news := self._meters.learn(model, limits):
            self._hear(Learnt(model, news))

    async def _counted(self, inner: Complete, request: Request) -> Answer:
        started = self._clock.now()
        self.in_flight += 1
        try:
            answer = await inner(request)
        except EndpointError as error:
            if error.kind is Kind.RATE_LIMITED:
                self._strike(started, error)
            raise
        finally:
            self.in_flight -= 1
        if self._strikes and started >= self._struck_at:
            self._strikes = 0
        return answer

    async def _settled(self, inner: Complete, request: Request, taken: Taken) -> Answer:
        """What was reckoned is set right by what was used."""
        usage, lost = None, False
        try:
            answer = await self._counted(inner, request)
            usage = answer.usage
            return answer
        except EndpointError as error:
            lost = error.unconfirmed
            raise
        finally:
            self._meters.settle(request, taken, usage, lost=lost)

    def _strike(self, started: float, error: EndpointError) -> None:
        """One rate limit. Where it states no wait the pause is short: each row backs off for itself besides.

        Those that were in flight together are one: they met the same limit.
        """
        if not self._strikes or started >= self._struck_at:
            self._strikes += 1
            self._struck_at = self._clock.now()
        guessed_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._strikes - 1, 10), _LONGEST_PAUSE_S)
        stated_s = error.retry_after_s
        if (
            stated_s is not None
            and stated_s >= _LONG_WAIT_S
            and self._clock.now() + stated_s > self._paused_until + 1.0
        ):
            self._hear(Waiting(stated_s, error))
        self.pause(guessed_s if stated_s is None else stated_s)

    async def _start(self, request: Request) -> Taken | None:
        """Wait until the request may go; returns what it took, None where tokens don't count."""
        while True:
            wait_s = self._paused_until - self._clock.now()
            if wait_s > 0:
                await self._clock.sleep(wait_s + self._spread_s * random.random())  # noqa: S311
                continue
            if not self._meters.active:
                self._check(request)
                return None
            async with self._turn:
                load = self._meters.load(request)
                # the first in the line looks again and again: what is settled meanwhile may bring it forward
                while self._paused_until <= self._clock.now():
                    self._check(request)
                    wait_s = self._meters.wait_s(request, load)
                    if wait_s <= 0:
                        return self._meters.take(request, load)
                    await self._clock.sleep(min(wait_s, _LOOK_AGAIN_S))
