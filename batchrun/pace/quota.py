"""A quota that is spent for a day or a month, or a wait of many minutes: nothing is sent but one probe now and then.

A wrapper between gate and limits. The row that was refused first tells it; whoever comes then waits in the line, and the
first of it asks when the next probe is due: at the moment that was stated, and before that too, for what endpoints state
about a day is often wrong, both ways. No row pays for it.
"""

from collections.abc import Callable

import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.events import Hear, Resumed, Waiting
from batchrun.moments import moment
from batchrun.pace.gate import Closed
from batchrun.pace.policy import FREE_KINDS, SILENT_KINDS
from batchrun.pace.turns import Turns
from batchrun.records import Answer, Complete, Request
from batchrun.stop import Stop, StopSign

LONG_S = 300.0
"""A stated wait from here on is probed; a shorter one is waited for by all."""
_FIRST_PROBE_S = 10.0
_FIRST_LONG_PROBE_S = 600.0
_LONGEST_PROBE_S = 3600.0
_MUCH_LATER_S = 60.0
_LATE_S = 0.1
"""Waits are stated with few digits: who comes a little early waits once more."""


def is_long(error: EndpointError) -> bool:
    """Whether a refusal is of a quota of a day or a month, or asks for a wait of many minutes."""
    if error.kind is not Kind.RATE_LIMITED or error.at_once:
        return False
    return error.quota is not None or (error.retry_after_s or 0.0) >= LONG_S


class Spent(msgspec.Struct, frozen=True):
    """A quota is spent `since` a second of the clock: it is renewed at `until`, None where nobody says, and probed next at
    `probe_at`, after `wait_s`. A short wait of a quota that fills up evenly is not worth a word: `told` says whether it was.
    """

    since: float
    until: float | None
    probe_at: float
    wait_s: float
    told: bool


class Quota:
    """Wraps the attempts of a run. `longest_wait_s` is what the user is ready to wait, None for any time: what is to take
    longer ends the run.
    """

    def __init__(self, clock: Clock, stop: StopSign, hear: Hear, longest_wait_s: float | None = None) -> None:
        self._clock = clock
        self._stop = stop
        self._hear = hear
        self._longest_s = longest_wait_s
        self._spent: Spent | None = None
        self._turns = Turns(lambda line: line[0])

    def wrap(self, inner: Complete) -> Complete:
        """`inner`, asked while there is something left of the quota, or as the probe that finds that out."""

        async def complete(request: Request) -> Answer:
            while self._spent is not None:
                if (answer := await self._in_turn(inner, request)) is not None:
                    return answer
            try:
                return await inner(request)
            except EndpointError as error:
                if self._counts(error):
                    self._refused(error)
                raise

        return complete

    def check(self, request: Request) -> None:
        """Send back what waited for its place when the quota was found spent. To be asked right before the wire."""
        if self._spent is not None and not self._turns.has(request):
            raise Closed

    def checked(self, gate: Callable[[Request], None]) -> Callable[[Request], None]:
        """The gate's check and this one."""

        def check(request: Request) -> None:
            gate(request)
            if self._spent is not None:
                self.check(request)

        return check

    def _counts(self, error: EndpointError) -> bool:
        too_long = self._longest_s is not None and (error.retry_after_s or 0.0) > self._longest_s
        return is_long(error) or (error.kind is Kind.RATE_LIMITED and not error.at_once and too_long)

    async def _in_turn(self, inner: Complete, request: Request) -> Answer | None:
        """Wait for the turn and for the moment of the next probe. None where the quota is renewed meanwhile."""
        if not await self._turns.wait(request):
            return None
        try:
            while (spent := self._spent) is not None and (wait_s := spent.probe_at - self._clock.now()) > 0.0:
                await self._clock.sleep(wait_s)
            self._stop.check()
            if self._spent is None:
                return None
            try:
                answer = await inner(request)
            except EndpointError as error:
                self._judge(error)
                raise
            self._renewed()
            return answer
        finally:
            self._turns.done()

    def _judge(self, error: EndpointError) -> None:
        """What a probe's fault says: a refusal that is none of the quota's means that it was let in."""
        if self._counts(error):
            self._refused(error)
        elif error.kind in SILENT_KINDS | FREE_KINDS:
            assert self._spent is not None
            self._spent = msgspec.structs.replace(self._spent, probe_at=self._clock.now() + self._spent.wait_s)
        else:
            self._renewed()

    def _refused(self, error: EndpointError) -> None:
        now, before, stated_s = self._clock.now(), self._spent, error.retry_after_s
        if before is not None and now < before.probe_at:
            return  # no probe was due yet: it was in flight together with the first one
        until = now + stated_s if stated_s is not None and stated_s >= LONG_S else None
        if before is not None:
            since, wait_s = before.since, min(2 * before.wait_s, _LONGEST_PROBE_S)
        else:
            since, wait_s = now, _FIRST_LONG_PROBE_S
            if until is None:
                wait_s = _FIRST_PROBE_S if stated_s is None else max(stated_s, 1.0)
        probe_at = _LATE_S + (now + wait_s if until is None else min(now + wait_s, until))
        news = before is None or not before.told
        if before is not None and before.until is not None:
            news = until is not None and until > before.until + _MUCH_LATER_S
        passing = before is None and until is None and stated_s is not None
        told = (before is not None and before.told) or not passing
        self._spent = Spent(since, until, probe_at, wait_s, told)
        self._end_where_too_long(error)
        if news and told:
            self._hear(Waiting(None if until is None else until - now, error, probed=True))

    def _end_where_too_long(self, error: EndpointError) -> None:
        """Where the wait is longer than the user allows, the run ends and says until when."""
        spent, longest_s = self._spent, self._longest_s
        if longest_s is None or spent is None:
            return
        stated_s = error.retry_after_s or 0.0
        if max(stated_s, spent.probe_at - spent.since) <= longest_s:
            return
        when = f"until {moment(self._clock.epoch(), stated_s)}" if stated_s > longest_s else "for longer"
        self._stop.ask(
            Stop(
                str(error.kind),
                f"stopped ({error.kind}): the endpoint asks to wait {when}, and [retry] longest_wait_s = {longest_s:g}: "
                f"{error.message}; the same command goes on from here",
            )
        )
        self._stop.check()

    def _renewed(self) -> None:
        spent, self._spent = self._spent, None
        if spent is None:
            return
        self._turns.send_all_on()
        if spent.told:
            self._hear(Resumed(self._clock.now() - spent.since))
