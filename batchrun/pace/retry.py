"""Ask again, with full jitter, for as long as it makes sense: the only owner of tenacity (endpoint.md §4–§5).

The first attempt is made directly; tenacity's machinery is entered only when it failed, so that the common case pays
nothing for it. What all requests of a run share is a pulse: whether the endpoint answers anybody. A fault is held
against a row only where it may be the row's own.
"""

import random
from collections.abc import Callable

import tenacity

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.job import Retry
from batchrun.records import Answer, Complete, Request

_FIRST_WAIT_S = 0.5
_MALFORMED_ATTEMPTS = 3
_FINAL = ROW_KINDS | FATAL_KINDS
_OUTAGE_KINDS = frozenset({Kind.CONNECT, Kind.SERVER})
_SPREAD = 0.1
OUTAGE_ROWS = 8
"""So many rows, each asked for the first time since anybody was answered, and each in vain: an outage. Rows that were
asked beside those that were answered prove nothing: they may be the ones that never will be.
"""
ALONE_S = 120.0
"""A request that is rate limited for so long with nothing beside it never gets through: two windows of a minute."""
PASSED_OVER = 20.0
"""Nor does one that was rate limited while so many of its fair shares of the answers went to others: by chance that
happens once in e²⁰ times.
"""


class _Pulse:
    """What the requests of a run know of each other: `asking` are in progress, `answers` were given.

    `shares` adds up what each of them could expect of the answers. `in_vain` counts those that went on the wire for the
    first time since the last answer, and failed as in an outage.
    """

    def __init__(self, clock: Clock) -> None:
        self.asking = self.answers = self.in_vain = 0
        self.shares = 0.0
        self._clock = clock
        self._answered_at = clock.now()

    def beat(self) -> None:
        self.answers += 1
        self.shares += 1 / self.asking
        self.in_vain = 0
        self._answered_at = self._clock.now()

    def failed_at_first(self, error: EndpointError) -> None:
        began = error.began_at
        if error.kind in _OUTAGE_KINDS and began is not None and began >= self._answered_at:
            self.in_vain += 1

    @property
    def outage(self) -> bool:
        """Whether the endpoint, which did answer in this run, now answers nobody."""
        return self.answers > 0 and self.in_vain >= OUTAGE_ROWS


def retrying(inner: Complete, settings: Retry, clock: Clock, on_retry: Callable[[EndpointError], None]) -> Complete:
    """`inner`, asked again after faults that may pass.

    `max_attempts` are those that count. A rate limit doesn't: the endpoint said to come back; nor does an outage, which
    is nobody's fault: but where a request alone is always refused while others are answered, it ends and says so.
    """
    pulse = _Pulse(clock)

    async def complete(request: Request) -> Answer:
        pulse.asking += 1
        try:
            try:
                answer = await inner(request)
            except EndpointError as error:
                if not _may_pass(error):
                    raise
                pulse.failed_at_first(error)
                answer = await _Again(inner, settings, clock, on_retry, pulse, error)(request)
            pulse.beat()
            return answer
        finally:
            pulse.asking -= 1

    return complete


class _Again:
    """The attempts of one request after its first one failed with `first`."""

    def __init__(
        self,
        inner: Complete,
        settings: Retry,
        clock: Clock,
        on_retry: Callable[[EndpointError], None],
        pulse: _Pulse,
        first: EndpointError,
    ) -> None:
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self._on_retry = on_retry
        self._pulse = pulse
        self._first: EndpointError | None = first
        self._counted = 0
        self._malformed = 0
        self._limits = _RateLimits(settings.max_attempts, clock, pulse)

    async def __call__(self, request: Request) -> Answer:
        loop = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            stop=self._enough,
            wait=self._wait_s,
            retry=tenacity.retry_if_exception(_may_pass),
            before_sleep=lambda state: self._on_retry(_error(state)),
            reraise=True,
        )
        answer: Answer = await loop(self._attempt, request)
        return answer

    async def _attempt(self, request: Request) -> Answer:
        try:
            if self._first is not None:
                first, self._first = self._first, None
                raise first
            return await self._inner(request)
        except EndpointError as error:
            if error.kind is Kind.RATE_LIMITED:
                self._limits.add(error)
            elif error.kind not in _OUTAGE_KINDS or not self._pulse.outage:
                self._counted += 1
            self._malformed += error.kind is Kind.MALFORMED
            raise

    def _enough(self, _state: tenacity.RetryCallState) -> bool:
        return self._counted >= self._settings.max_attempts or self._malformed >= _MALFORMED_ATTEMPTS

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """U(0, min(max_wait, 0.5·2ⁿ)) seconds; a stated wait is a floor, with a little jitter on top."""
        longest = min(self._settings.max_wait_s, _FIRST_WAIT_S * 2.0 ** min(state.attempt_number, 30))
        stated = _error(state).retry_after_s
        if stated is not None:
            return stated + random.uniform(0, min(longest, 1.0 + _SPREAD * stated))  # noqa: S311
        return random.uniform(0, longest)  # noqa: S311


class _RateLimits:
    """The rate limits of one request: none of them counts, unless it is this request that never gets through."""

    def __init__(self, most: int, clock: Clock, pulse: _Pulse) -> None:
        self._most = most
        self._clock = clock
        self._pulse = pulse
        self._count = self._alone = 0
        self._since = self._alone_since = clock.now()
        self._answers, self._shares = pulse.answers, pulse.shares

    def add(self, error: EndpointError) -> None:
        """Count one. Where the request will never get through, the error becomes final and says so."""
        now = self._clock.now()
        self._count += 1
        if self._pulse.asking > 1:
            self._alone, self._alone_since = 0, now
        else:
            self._alone += 1
        if self._alone >= self._most and now - self._alone_since >= ALONE_S:
            beside = "nothing else was in flight"
        elif self._count >= self._most and self._pulse.shares - self._shares >= PASSED_OVER:
            beside = f"{self._pulse.answers - self._answers} others were answered"
        else:
            return
        error.message = (
            f"{error.message}; refused {self._count} times in {(now - self._since) / 60:.0f} min while {beside}: "
            "perhaps it is larger than the whole limit"
        )
        error.args = (error.message,)
        error.should_retry = False


def _may_pass(error: BaseException) -> bool:
    """Whether asking again makes sense. What the endpoint says itself (x-should-retry) overrides its kind."""
    if not isinstance(error, EndpointError):
        return False
    return error.kind not in _FINAL if error.should_retry is None else error.should_retry


def _error(state: tenacity.RetryCallState) -> EndpointError:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, EndpointError)
    return error
