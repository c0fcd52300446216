"""How many at once and how often: a wrapper that holds an attempt until it may go on the wire.

A row that backs off holds no place: places are taken for an attempt, not for a request. A wait that the endpoint
states pauses everybody, and never shortens a longer one.
"""

import random

import anyio

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Complete, Request

_CATCH_UP_S = 0.1
_SLACK = 1.002
_SPREAD = 0.1


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
        self._paused_until = 0.0
        self.in_flight = 0

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            await self._places.acquire()
            try:
                if self._spacing_s or self._paused_until:
                    await self._turn()
                self.in_flight += 1
                try:
                    return await inner(request)
                finally:
                    self.in_flight -= 1
            except EndpointError as error:
                if error.kind is Kind.RATE_LIMITED:
                    self.pause(error.retry_after_s or 0.0)
                raise
            finally:
                self._places.release()

        return complete

    def pause(self, seconds: float) -> None:
        """Let nothing start for so long. A shorter pause never shortens a longer one."""
        self._paused_until = max(self._paused_until, self._clock.now() + seconds)

    async def _turn(self) -> None:
        while True:
            now = self._clock.now()
            if self._paused_until > now:
                # a little jitter, so that those who wait don't all return at once
                await self._clock.sleep((self._paused_until - now) * (1 + _SPREAD * random.random()))  # noqa: S311
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
