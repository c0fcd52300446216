"""How many at once and how often: a wrapper that holds an attempt until it may go on the wire.

A row that backs off holds no place: places are taken for an attempt, not for a request. A rate limit pauses everybody,
for as long as the endpoint states, and never shortens a longer pause; those who wait don't come back in step. One that
states no wait while others are being answered is met with fewer at once (adapt.py).
"""

import random
from collections.abc import Callable

import anyio
import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.events import Dropped, Hear, Learnt, Narrowed, Waiting, nobody
from batchrun.pace.adapt import End, Fit, Seen, decide, grown
from batchrun.pace.meters import Meters, Out, Taken
from batchrun.pace.places import Places
from batchrun.pace.policy import HARDLY_S
from batchrun.pace.quota import is_long
from batchrun.records import Answer, Complete, Request, StatedLimit

_LOOK_AGAIN_S = 0.25
_SPREAD = 0.1
_LEAST_SPREAD_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 1.0
_LONG_WAIT_S = 20.0
_SENT_S = 60.0
_BRIEF_S = 2.0
"""A stated wait up to here may be of a limit by the second, or of what is in flight."""
_ENDS = {
    Kind.RATE_LIMITED: End.REFUSED,
    Kind.DISCONNECTED: End.BROKEN,
    Kind.MALFORMED: End.BROKEN,
    Kind.CONNECT: End.UNREACHED,
}


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
        self._places = Places(concurrency)
        self._fit = Fit(concurrency, concurrency)
        self._looks = self._told = False
        self._sent: dict[str, int] = {}
        self._sent_since = clock.now()
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
            if not self._places.enter_now():
                await self._enter()
            try:
                if self._meters.active or self._paused_until:
                    taken = await self._start(request)
                    if taken is not None:
                        return await self._settled(inner, request, taken)
                else:
                    self._check(request)
                answer = await self._counted(inner, request)
                if self._meters.active:  # a limit was learnt meanwhile
                    self._meters.owe(request, answer.usage)
                return answer
            finally:
                self._places.leave()

        return complete

    def pause(self, seconds: float) -> None:
        """Let nothing start for so long. A shorter pause never shortens a longer one."""
        until = self._clock.now() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._spread_s = max(_SPREAD * seconds, min(seconds, _LEAST_SPREAD_S))

    def allow(self, concurrency: int) -> None:
        """From now on so many may be in flight; what the endpoint has shown to take at most is kept."""
        fit = self._fit
        places = min(fit.places, concurrency) if fit.narrowed else concurrency
        if places == concurrency:
            fit = Fit(concurrency, concurrency, deaf_until=fit.deaf_until)
        self._set(msgspec.structs.replace(fit, most=concurrency, places=places))

    def allow_requests(self, per_minute: float) -> None:
        """From now on so many attempts are started a minute."""
        self._meters.allow_requests(per_minute)

    def learn(self, model: str, limits: list[StatedLimit]) -> None:
        """Keep the limits that the endpoint states with an answer of a model; they never raise what the user allows."""
        sent = self._sent.get(model, 0) if self._clock.now() - self._sent_since <= _SENT_S else self.in_flight
        news = self._meters.learn(model, limits, Out(self.in_flight, sent, self._sent_since))
        if news.learnt:
            self._hear(Learnt(model, news.learnt))
        if news.dropped:
            self._hear(Dropped(model, news.dropped))

    async def _enter(self) -> None:
        """Wait for a place. Where there are fewer than allowed, one of those who wait looks whether more may be tried."""
        called = self._places.line_up()
        looks = self._fit.narrowed and not self._looks
        self._looks = self._looks or looks
        try:
            while looks and not called.done():
                await self._clock.sleep(_LOOK_AGAIN_S)
                self._grow()
            await called
        except BaseException:
            self._places.give_up(called)
            raise
        finally:
            if looks:
                self._looks = False

    async def _counted(self, inner: Complete, request: Request) -> Answer:
        started = self._clock.now()
        self.in_flight += 1
        beside = self.in_flight
        if started - self._sent_since > _SENT_S:
            self._sent_since = started
            self._sent.clear()
        self._sent[request.model] = self._sent.get(request.model, 0) + 1
        fault: EndpointError | None = None
        try:
            answer = await inner(request)
        except EndpointError as error:
            fault = error
            raise
        finally:
            self.in_flight -= 1
            if fault is not None:
                self._failed(started, beside, fault)
                if fault.kind is Kind.RATE_LIMITED:
                    self._sent[request.model] = max(self._sent.get(request.model, 0) - 1, 0)
                    self._meters.believe()
        if self._fit.watches:
            self._adapt(End.ANSWERED, started, beside)
        if self._strikes and started >= self._struck_at:
            self._strikes = 0
        return answer

    def _failed(self, started: float, beside: int, error: EndpointError) -> None:
        """What one fault says of how many may be sent, and when. What is long is waited for outside (quota.py): after that
        the first few find out how much there is.
        """
        if is_long(error):
            self._set(Fit(self._fit.most, 1, known=1, since=self._clock.now(), spent=True))
            return
        unstated = error.at_once or error.retry_after_s is None or error.retry_after_s < HARDLY_S
        end = _ENDS.get(error.kind) if error.usage is None else None
        if end is not None and (end is not End.REFUSED or unstated or (error.retry_after_s or 0.0) <= _BRIEF_S):
            self._adapt(end, started, beside)
        if error.kind is Kind.RATE_LIMITED and not (unstated and self.in_flight):
            self._strike(started, error)

    def _adapt(self, end: End, started: float, beside: int) -> None:
        seen = Seen(end, started, self._clock.now(), beside, self.in_flight)
        self._set(decide(seen, self._fit))

    def _grow(self) -> None:
        before = self._fit
        self._set(grown(self._clock.now(), self.in_flight, before))
        if self._fit is not before and not before.spent and not self._told:  # it is tried for more: so many it took
            self._told = True
            self._hear(Narrowed(before.places, broken=before.broken))

    def _set(self, fit: Fit) -> None:
        self._fit = fit
        if fit.places != self._places.size:
            self._places.resize(fit.places)

    async def _settled(self, inner: Complete, request: Request, taken: Taken) -> Answer:
        """What was estimated is set right by what was used."""
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
        """One rate limit. A stated wait is a floor on the pause; without one it is short: each row backs off for itself besides.

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
        self.pause(max(guessed_s, stated_s or 0.0))

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
