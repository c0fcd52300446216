"""Ask again, with full jitter, for as long as it makes sense: the only owner of tenacity (endpoint.md §4–§5).

The first attempt is made directly; tenacity's machinery is entered only when it failed, so that the common case pays
nothing for it. What all requests of a run share is a pulse. A fault is held against a row only where it may be the
row's own.
"""

import random
from collections.abc import Callable

import tenacity

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.job import Retry
from batchrun.pace.pulse import OUTAGE_KINDS, Pulse
from batchrun.records import Answer, Complete, Request

_FIRST_WAIT_S = 0.5
_MALFORMED_ATTEMPTS = 3
_FINAL = ROW_KINDS | FATAL_KINDS
_SPREAD = 0.1
ALONE_S = 120.0
"""A request that is rate limited for so long with nothing beside it never gets through: two windows of a minute."""
PASSED_OVER = 20.0
"""Nor does one that was rate limited while so many of its fair shares of the answers went to others: by chance that
happens once in e²⁰ times.
"""


def retrying(
    inner: Complete,
    settings: Retry,
    clock: Clock,
    on_retry: Callable[[EndpointError], None],
    on_outage: Callable[[EndpointError, float], None] = lambda _error, _patience_s: None,
    pulse: Pulse | None = None,
) -> Complete:
    """`inner`, asked again after faults that may pass.

    `max_attempts` are those that count. A rate limit doesn't: the endpoint said to come back; nor does an outage, which
    is nobody's fault: but where a request alone is always refused while others are answered, it ends and says so.
    `on_outage` hears of every fault while nobody is answered for long, and for how many seconds rows are still asked.
    """
    pulse = pulse or Pulse(clock)

    async def complete(request: Request) -> Answer:
        pulse.asking += 1
        before = pulse.answers.count
        try:
            try:
                answer = await inner(request)
            except EndpointError as error:
                pulse.failed_at_first(error)
                if not _may_pass(error) and not pulse.excuses(error):
                    raise
                again = _Again(inner, settings, clock, on_retry, on_outage, pulse, error, before)
                answer = await again(request)
            pulse.beat(answer)
            return answer
        finally:
            pulse.asking -= 1

    return complete


class _Again:
    """The attempts of one request after its first one failed with `first`; `answers` were given before that was made."""

    def __init__(
        self,
        inner: Complete,
        settings: Retry,
        clock: Clock,
        on_retry: Callable[[EndpointError], None],
        on_outage: Callable[[EndpointError, float], None],
        pulse: Pulse,
        first: EndpointError,
        answers: int,
    ) -> None:
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self._on_retry = on_retry
        self._on_outage = on_outage
        self._pulse = pulse
        self._first: EndpointError | None = first
        self._answers = answers
        self._counted = self._excused = self._beside = 0
        self._malformed = 0
        self._is_held = self._is_excused = False
        self._limits = _RateLimits(settings.max_attempts, clock, pulse)

    async def __call__(self, request: Request) -> Answer:
        loop = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            stop=self._enough,
            wait=self._wait_s,
            retry=tenacity.retry_if_exception(self._goes_on),
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
            self._is_excused = self._pulse.excuses(error)
            self._is_held = not self._is_excused and error.kind is not Kind.RATE_LIMITED
            if self._is_held:
                self._counted += 1
                self._malformed += error.kind in (Kind.MALFORMED, Kind.EMPTY_OUTPUT)
                self._beside += self._answers < self._pulse.answers.count
            elif self._is_excused:
                self._excused += 1
            else:
                self._limits.add(error)
            self._answers = self._pulse.answers.count
            if self._pulse.lasting_outage:
                self._on_outage(error, self._pulse.patience_s)
            raise

    def _goes_on(self, error: BaseException) -> bool:
        return _may_pass(error) or (self._is_excused and isinstance(error, EndpointError))

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        if self._is_held and self._malformed >= _MALFORMED_ATTEMPTS:
            return True
        if self._is_held and self._counted >= self._settings.max_attempts:
            return not self._may_be_an_outage(_error(state))
        given_up = self._is_excused and self._pulse.patience_s <= 0.0
        return given_up and self._counted + self._excused >= self._settings.max_attempts

    def _may_be_an_outage(self, error: EndpointError) -> bool:
        """Whether one of the last rows, which was hardly ever asked beside others that had their answers, had better wait."""
        most = self._settings.max_attempts
        alone = most > 1 and 2 * self._beside < most and self._pulse.is_last()
        return alone and error.kind in OUTAGE_KINDS and self._pulse.recently_well

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """U(0, min(max_wait, 0.5·2ⁿ)) seconds; a stated wait is a floor, with a little jitter on top."""
        longest = min(self._settings.max_wait_s, _FIRST_WAIT_S * 2.0 ** min(state.attempt_number, 30))
        stated = _error(state).retry_after_s
        if stated is not None:
            return stated + random.uniform(0, min(longest, 1.0 + _SPREAD * stated))  # noqa: S311
        return random.uniform(0, longest)  # noqa: S311


class _RateLimits:
    """The rate limits of one request: none of them counts, unless it is this request that never gets through."""

    def __init__(self, most: int, clock: Clock, pulse: Pulse) -> None:
        self._most = most
        self._clock = clock
        self._pulse = pulse
        self._count = self._alone = 0
        self._since = self._alone_since = self._shares = 0.0
        self._answers = 0

    def add(self, error: EndpointError) -> None:
        """Count one. Where the request will never get through, the error becomes final and says so."""
        now = self._clock.now()
        if not self._count:
            self._since = self._alone_since = now
            self._answers, self._shares = self._pulse.answers.count, self._pulse.shares
        self._count += 1
        if self._pulse.asking > 1:
            self._alone, self._alone_since = 0, now
        else:
            self._alone += 1
        if self._alone >= self._most and now - self._alone_since >= ALONE_S:
            beside = "nothing else was in flight"
        elif self._count >= self._most and self._pulse.shares - self._shares >= PASSED_OVER:
            beside = f"{self._pulse.answers.count - self._answers} others were answered"
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
