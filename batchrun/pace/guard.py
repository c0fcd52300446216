"""Faults that every row would meet stop the job, but not at the first sight of them (endpoint.md §4).

The first such fault closes the gate: nothing new starts. One probe goes out after a pause; only when it fails in such
a way too is the run stopped. A relay that drops one key of its pool for a second doesn't end an overnight job, nor does
one row that alone is refused while others are answered. In an outage, where a probe's fault may yet be its row's own,
the rows that wait are probes in turn, until one is answered.
"""

from collections.abc import Callable

import anyio

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.pace.alarm import Alarm
from batchrun.pace.pulse import OUTAGE_KINDS, SILENT_KINDS, Pulse
from batchrun.records import Answer, Complete, Request

PROBE_AFTER_S = 2.0
LONGEST_PROBE_WAIT_S = 60.0
LONGEST_TURN_WAIT_S = 5.0
_NEVER_ANSWERED_S = 10.0
"""Time for two probes: the row that met the last fault, and one that stands far from it."""
_LOOK_AGAIN_S = 1.0


class Stopped(Exception):  # noqa: N818 - not an error of the request: it stays to be done
    """The gate is shut for good; the request was not answered and stays to be done."""


class _Closed(Exception):  # noqa: N818 - no error: the attempt waits at the gate and is made later
    """The gate closed while an attempt waited for its place; nothing was sent."""


class Guard:
    """Wraps the attempts of a run. `fault` is the one that shut it, None while it is open.

    `on_pause` hears of a fault that closes the gate and for how many seconds more than one probe is made, `on_resume` of
    the gate's opening again after so many seconds, and whether the endpoint answers. `key_env` names the variable that
    holds the key, for the message; `is_last` says whether others have their answers and nothing else is left to ask than
    what stopped an earlier run. `scout` is called in an outage, to have a row asked that stands far from those that failed.
    """

    def __init__(
        self,
        clock: Clock,
        on_pause: Callable[[EndpointError, float], None],
        on_resume: Callable[[float, bool], None] = lambda _seconds, _answered: None,
        probe_after_s: float = PROBE_AFTER_S,
        key_env: str | None = None,
        is_last: Callable[[], bool] = lambda: False,
        scout: Callable[[], None] = lambda: None,
        pulse: Pulse | None = None,
    ) -> None:
        self.fault: EndpointError | None = None
        self.shut = anyio.Event()
        self._clock = clock
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._is_last = is_last
        self._scout = scout
        self._pulse = pulse or Pulse(clock)
        self._probe_after_s = probe_after_s
        self._alarm = Alarm(clock, key_env)
        self._open = anyio.Event()
        self._open.set()
        self._waiting = 0
        self._probe_request: Request | None = None
        self._ticket: _Ticket | None = None
        self._outage: _Outage | None = None
        self._turn = anyio.Lock()

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            while True:
                if self._outage is not None:
                    answer = await self._in_turn(inner, request)
                elif not self._open.is_set():
                    ticket = await self._wait()
                    answer = None if ticket is None else await self._second_probe(inner, request, ticket)
                else:
                    answer = await self._attempt(inner, request)
                if answer is not None:
                    return answer

        return complete

    def suspend(self, error: EndpointError, patience_s: float) -> None:
        """Close the gate for an outage: the endpoint answers nobody for a while. `patience_s` is how long that may go on; then
        it is opened, and the rows are asked to their end.
        """
        if patience_s <= 0.0:
            self._end_outage(answered=False)
        elif error.kind in SILENT_KINDS - {Kind.CONNECT} and self.fault is None and self._open.is_set():
            left_s = self._alarm.outage_patience_s()
            self._close_for(error, left_s, min(left_s, patience_s))

    def check(self, request: Request) -> None:
        """Send back what waits for its turn while the gate is closed: the probe alone may pass."""
        if not self._open.is_set() and request is not self._probe_request:
            raise _Closed

    def admit(self, inner: Complete) -> Complete:
        """The gate's other side, next to the wire: what waited for its place while the gate closed is sent back."""

        async def complete(request: Request) -> Answer:
            self.check(request)
            number = self._pulse.sent()
            try:
                return await inner(request)
            finally:
                self._pulse.ended(number)

        return complete

    def message(self) -> str:
        """What stopped the run, with the mend."""
        assert self.fault is not None
        return f"stopped ({self.fault.kind}): {self.fault.message}; {self._alarm.mend(self.fault)}"

    async def _attempt(self, inner: Complete, request: Request) -> Answer | None:
        """One attempt, or the probe that it leads to; None where it is to wait at the gate first."""
        if self.fault is not None:
            raise Stopped
        try:
            answer = await inner(request)
        except _Closed:
            return None
        except EndpointError as error:
            if self._is_turn_of(request):
                self._judge_turn(error)
                if error.kind in FATAL_KINDS:  # asked again beside the others, who may be asked too
                    return None
            if not self._alarm.rings(request, error):
                raise
            if self.fault is not None:
                raise Stopped from error
            if not self._open.is_set():
                return None
            if error.kind is Kind.CONNECT or error.kind not in SILENT_KINDS:
                return await self._probe(inner, request, error)
            self._close_for(error, _NEVER_ANSWERED_S, 0.0)
            return None
        self._alarm.answered()
        if self._is_turn_of(request):
            self._end_outage()
        return answer

    def _close_for(self, error: EndpointError, seconds: float, told_s: float) -> None:
        """Close the gate, and stop the run where no probe is answered for so long."""
        self._open = anyio.Event()
        self._outage = _Outage(self._clock.now(), self._probe_after_s, seconds)
        self._on_pause(error, told_s)
        self._scout()

    def _is_turn_of(self, request: Request) -> bool:
        return self._outage is not None and self._probe_request is request

    async def _in_turn(self, inner: Complete, request: Request) -> Answer | None:
        """In an outage: wait until it is over, or until it is this request's turn to be the probe."""
        async with self._turn:
            while (outage := self._outage) is not None:
                wait_s = outage.next_at - self._clock.now()
                if wait_s <= 0.0:
                    break
                await self._clock.sleep(min(wait_s, _LOOK_AGAIN_S))
            else:
                return None
            self._probe_request = request
            try:
                return await self._attempt(inner, request)
            finally:
                if self._probe_request is request:
                    self._probe_request = None

    def _judge_turn(self, error: EndpointError) -> None:
        """What a probe's fault says of an outage: it is over, it goes on, or it has lasted for too long."""
        assert self._outage is not None
        if error.kind in ROW_KINDS | FATAL_KINDS:
            self._end_outage()
            return
        may_cost = error.kind not in OUTAGE_KINDS
        self._outage.later(self._clock.now(), LONGEST_PROBE_WAIT_S if may_cost else LONGEST_TURN_WAIT_S)
        if self._outage.next_at < self._outage.until:
            self._scout()
            return
        self.fault = error
        self.shut.set()
        self._end_outage()

    def _end_outage(self, *, answered: bool = True) -> None:
        if (outage := self._outage) is not None:
            self._outage = None
            self._open.set()
            if self.fault is None:
                self._on_resume(self._clock.now() - outage.since, answered)

    async def _wait(self) -> "_Ticket | None":
        """Until the gate opens or is shut; or until this request is picked to be the second probe."""
        self._waiting += 1
        try:
            while not self._open.is_set() and self._outage is None:
                await self._open.wait()
                if self._ticket is not None:
                    ticket, self._ticket = self._ticket, None
                    return ticket
        finally:
            self._waiting -= 1
        return None

    async def _probe(self, inner: Complete, request: Request, error: EndpointError) -> Answer:
        self._open = anyio.Event()
        self._probe_request = request
        patience_s = self._alarm.patience_s(error)
        self._on_pause(error, patience_s)
        since, wait_s = self._clock.now(), self._probe_after_s
        try:
            while True:
                await self._clock.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_PROBE_WAIT_S)
                try:
                    answer = await inner(request)
                except EndpointError as again:
                    if not self._alarm.is_common(error, again):
                        self._alarm.quiet()
                        self._on_resume(self._clock.now() - since, True)
                        raise
                    if again.kind is Kind.CONNECT and self._clock.now() - since < patience_s:
                        continue
                    if await self._is_the_rows_own(again):
                        self._on_resume(self._clock.now() - since, True)
                        raise
                    self.fault = again
                    self.shut.set()
                    raise Stopped from again
                self._alarm.answered()
                self._on_resume(self._clock.now() - since, True)
                return answer
        finally:
            self._probe_request = None
            self._open.set()

    async def _is_the_rows_own(self, error: EndpointError) -> bool:
        """Whether a fault that lasts is this row's alone: where others were answered before, one of those that wait is
        asked too. Where none is left and this one stopped a run before, the same command would come to this end for ever.
        """
        if error.kind in FATAL_KINDS and self._is_last():
            return True
        if not (self._alarm.answers.count and self._waiting and error.kind in FATAL_KINDS):
            return False
        self._ticket = ticket = _Ticket()
        woken, self._open = self._open, anyio.Event()
        woken.set()
        await ticket.decided.wait()
        if ticket.passed:
            self._alarm.acquit(error)
        return ticket.passed

    async def _second_probe(self, inner: Complete, request: Request, ticket: "_Ticket") -> Answer:
        self._probe_request = request
        try:
            try:
                answer = await inner(request)
            except EndpointError as error:
                if error.kind in FATAL_KINDS or error.kind is Kind.CONNECT:
                    raise Stopped from error
                ticket.passed = True
                raise
            ticket.passed = True
            self._alarm.answered()
            return answer
        finally:
            ticket.decided.set()


class _Ticket:
    """The second probe, handed to one of those that wait. `passed` says that it met no fault of everybody's."""

    def __init__(self) -> None:
        self.decided = anyio.Event()
        self.passed = False


class _Outage:
    """Since when nobody is answered, when the next probe may go, after growing pauses, and until when."""

    def __init__(self, now: float, wait_s: float, seconds: float) -> None:
        self.since = now
        self.next_at = now + wait_s
        self.until = now + seconds
        self._wait_s = wait_s

    def later(self, now: float, longest_s: float) -> None:
        self._wait_s = min(2 * self._wait_s, longest_s)
        self.next_at = now + self._wait_s
