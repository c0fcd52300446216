"""How many at once and how often: a wrapper that holds an attempt until it may go on the wire.

A row that backs off holds no place: places are taken for an attempt, not for a request. A rate limit pauses everybody,
for as long as the endpoint states, and never shortens a longer pause; those who wait don't come back in step.
"""

import random

import anyio

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Complete, Request

_CATCH_UP_S = 0.1
_SLACK = 1.002
_SPREAD = 0.1
_LEAST_SPREAD_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 1.0


class Limits:
    """`concurrency` attempts in flight at most, `requests_per_minute` attempts started, evenly spaced.

    Even spacing suits endpoints that count by the second. Starts that come late are made up for within 0.1 s, and the
    spacing is 0.2 % wider than the rate asks for: so any window of a minute stays within the rate.
    """

    def __init__(self, concurrency: int, requests_per_minute: float | None, clock: Clock) -> None:
        self._places = anyio.Semaphore(concurrency, fast_acquire=True)
        self._spacing_s = 60.0 * _SLACK / requests_per_minute if requests_per_minute else 0.0
        self._clock = clock
        self._next = clock.now()
        self._paused_until = self._spread_s = 0.0
        self._strikes = 0
        self._struck_at = 0.0
        self.in_flight = 0

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            await self._places.acquire()
            try:
                if self._spacing_s or self._paused_until:
                    await self._turn()
                started = self._clock.now()
                self.in_flight += 1
                try:
                    answer = await inner(request)
                finally:
                    self.in_flight -= 1
                if self._strikes and started >= self._struck_at:
                    self._strikes = 0
                return answer
            except EndpointError as error:
                if error.kind is Kind.RATE_LIMITED:
                    self._strike(started, error.retry_after_s)
                raise
            finally:
                self._places.release()

        return complete

    def pause(self, seconds: float) -> None:
        """Let nothing start for so long. A shorter pause never shortens a longer one."""
        until = self._clock.now() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._spread_s = max(_SPREAD * seconds, min(seconds, _LEAST_SPREAD_S))

    def _strike(self, started: float, stated_s: float | None) -> None:
        """One rate limit. Where it states no wait the pause is short: each row backs off for itself besides.

        Those that were in flight together are one: they met the same limit.
        """
        if not self._strikes or started >= self._struck_at:
            self._strikes += 1
            self._struck_at = self._clock.now()
        guessed_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._strikes - 1, 10), _LONGEST_PAUSE_S)
        self.pause(guessed_s if stated_s is None else stated_s)

    async def _turn(self) -> None:
        while True:
            now = self._clock.now()
            if self._paused_until > now:
                await self._clock.sleep(self._paused_until - now + self._spread_s * random.random())  # noqa: S311
                continue
            if not self._spacing_s:
                return
            start = max(self._next, now - _CATCH_UP_S)
            self._next = start + self._spacing_s
            if start > now:
                await self._clock.sleep(start - now)
                if self._paused_until > self._clock.now():
                    continue
            return
