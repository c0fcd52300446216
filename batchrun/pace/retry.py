"""Ask again, with full jitter, for as long as it makes sense (endpoint.md §4–§5).

A fault is held against a row only where it is the row's own: what all requests of a run share to tell that is their health.
"""

import random

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.events import Hear, Retried
from batchrun.pace.health import Health, is_silent
from batchrun.pace.policy import FREE_KINDS, HARDLY_S, Policy
from batchrun.pace.quota import is_long
from batchrun.pace.rest import Rest
from batchrun.records import Answer, Complete, Request
from batchrun.sections import Retry
from batchrun.stop import UNANSWERED, Stop, StopSign

_FIRST_WAIT_S = 0.5
_ODD_ATTEMPTS = 3
"""An answer that can't be read, or has nothing in it, was likely paid for: it is asked for twice more."""
_FINAL = ROW_KINDS | FATAL_KINDS
_SPREAD = 0.1
_LONGEST_STATED_S = 3600.0
"""A header that names years by mistake holds no row for longer."""
ALONE_S = 120.0
"""A request that is rate limited for so long with nothing beside it never gets through: two windows of a minute."""
PASSED_OVER = 20.0
"""Nor does one that was rate limited while so many of its fair shares of the answers went to others: by chance that
happens once in e²⁰ times.
"""


class Retrying:
    """Asks again after faults that may pass.

    `max_attempts` are those that count. A rate limit doesn't: the endpoint said to come back; nor does an outage, which is
    nobody's fault. But where a request alone is always refused while others are answered, it ends and says so. Where all
    that is left fails, and nothing tells whether it is the endpoint or the rows, the run is stopped.
    """

    def __init__(
        self, settings: Retry, clock: Clock, stop: StopSign, health: Health, rest: Rest, hear: Hear, policy: Policy
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.stop = stop
        self.health = health
        self.rest = rest
        self.hear = hear
        self.policy = policy

    def wrap(self, inner: Complete) -> Complete:
        """`inner`, asked until it answers, fails for good, or the run is stopped."""
        health = self.health

        async def complete(request: Request) -> Answer:
            health.asking += 1
            course: _Course | None = None
            try:
                while True:
                    try:
                        return await inner(request)
                    except EndpointError as error:
                        course = course or _Course(self, request)
                        wait_s = course.wait_s(error)
                        self.hear(Retried(error))
                        rests = error.kind in FREE_KINDS
                        health.resting += rests
                        try:
                            await self.clock.sleep(wait_s)
                        finally:
                            health.resting -= rests
                        # what was answered meanwhile may have told that this fault was the row's own
                        if course.is_over(error):
                            raise
            finally:
                health.asking -= 1
                if course is not None:
                    health.forget(request.key)

        return complete


class _Course:
    """The attempts of one request after its first one failed."""

    def __init__(self, retrying: Retrying, request: Request) -> None:
        self._most = retrying.settings.max_attempts
        self._longest_s = retrying.settings.max_wait_s
        self._retrying = retrying
        self._health = retrying.health
        self._key = request.key
        self._request = request
        self._faults = self._other = 0
        self._limits = _RateLimits(self._most, retrying.clock, retrying.health)

    def wait_s(self, error: EndpointError) -> float:
        """How long to wait before it is asked again, seconds. Raises the error where that makes no sense, Stopped where the
        run ends with it.
        """
        self._faults += 1
        if not self._may_pass(error):
            raise error
        if error.kind is Kind.RATE_LIMITED:
            if not is_long(error):
                self._limits.add(error)
        elif is_silent(error):
            if self.is_over(error):
                raise error
            self._may_end_the_run(error)
        else:
            self._other += 1
            if self._other >= self._most_of(error):
                raise error
        # what is not waited for here: a place, and a quota, for which all wait together
        return self._jittered(None if error.at_once or is_long(error) else error.retry_after_s)

    def is_over(self, error: EndpointError) -> bool:
        """Whether the request has failed often enough, and by itself."""
        if not is_silent(error):
            return False
        if error.kind is Kind.MALFORMED and self._health.is_ill(self._key, self._most_of(error), error.kind):
            return True
        return self._health.is_ill(self._key, 1 if error.should_retry is False else self._most)

    def _most_of(self, error: EndpointError) -> int:
        """How many attempts that end in such a fault are made at most."""
        return min(self._most, _ODD_ATTEMPTS) if error.kind in (Kind.MALFORMED, Kind.EMPTY_OUTPUT) else self._most

    def _may_pass(self, error: EndpointError) -> bool:
        """Whether asking again may make sense. What the endpoint says itself (x-should-retry) overrides its kind. But a rate
        limit is never final, and a fault that may be an outage's only once it is known to be the row's own. A refusal that
        comes and goes is asked about again, since it costs nothing.
        """
        if error.kind in FATAL_KINDS and error.should_retry is None:
            return self._health.refusals.may_pass(self._request, error)
        if error.should_retry is None or error.kind is Kind.RATE_LIMITED:
            return error.kind not in _FINAL
        return error.should_retry or is_silent(error)

    def _may_end_the_run(self, error: EndpointError) -> None:
        """Stop the run where only rows are left that nobody answers, and nobody can tell why: a stopped run goes on with
        the same command, a row that is wrongly failed is lost. A person may say that they shall fail.
        """
        health, rest = self._health, self._retrying.rest
        if not rest.is_last or health.attempts(self._key) < self._most_of(error) or health.is_silent:
            return
        if health.patience_s <= 0.0 or error.kind not in FREE_KINDS:
            if health.gives_up:
                raise error
            left = f"{health.asking} request{'s are' if health.asking > 1 else ' is'} left"
            self._retrying.stop.ask(
                Stop(
                    UNANSWERED,
                    f"stopped ({error.kind}): {left}, and the endpoint answers none of them: {error.message}; nothing else "
                    "is left to tell whether the endpoint is down or they can't be answered. The same command goes on; with "
                    "--unanswered fail they are recorded as failed",
                )
            )
            self._retrying.stop.check()

    def _jittered(self, stated: float | None) -> float:
        """U(0, min(max_wait, 0.5·2ⁿ)) seconds; a stated wait is a floor, with a little jitter on top. One that is hardly
        any takes no brake away.
        """
        longest = min(self._longest_s, _FIRST_WAIT_S * 2.0 ** min(self._faults, 30))
        if stated is None or stated < HARDLY_S:
            return random.uniform(0, longest)  # noqa: S311
        stated = min(stated, _LONGEST_STATED_S)
        return stated + random.uniform(0, min(longest, 1.0 + _SPREAD * stated))  # noqa: S311


class _RateLimits:
    """The rate limits of one request: none of them counts, unless it is this request that never gets through."""

    def __init__(self, most: int, clock: Clock, health: Health) -> None:
        self._most = most
        self._clock = clock
        self._health = health
        self._count = self._alone = 0
        self._since = self._alone_since = self._shares = 0.0
        self._answers = 0

    def add(self, error: EndpointError) -> None:
        """Count one. Where the request will never get through, raise the error, which says so."""
        now = self._clock.now()
        if not self._count:
            self._since = self._alone_since = now
            self._answers, self._shares = self._health.answers, self._health.shares
        self._count += 1
        if self._health.asking > 1:
            self._alone, self._alone_since = 0, now
        else:
            self._alone += 1
        if self._alone >= self._most and now - self._alone_since >= ALONE_S:
            beside = "nothing else was in flight"
        elif self._count >= self._most and self._health.shares - self._shares >= PASSED_OVER:
            beside = f"{self._health.answers - self._answers} others were answered"
        else:
            return
        error.message = (
            f"{error.message}; refused {self._count} times in {(now - self._since) / 60:.0f} min while {beside}: "
            "perhaps it is larger than the whole limit"
        )
        error.args = (error.message,)
        raise error
