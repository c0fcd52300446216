"""Faults that every row would meet stop the job, but not at the first sight of them (endpoint.md §4).

The first such fault closes the gate: nothing new starts. One probe goes out after a pause; only when it fails in such
a way too is the run stopped. A relay that drops one key of its pool for a second doesn't end an overnight job, nor does
one row that alone is refused while others are answered.
"""

from collections.abc import Callable

import anyio

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, EndpointError, Kind
from batchrun.pace.alarm import Alarm
from batchrun.records import Answer, Complete, Request

PROBE_AFTER_S = 2.0
LONGEST_PROBE_WAIT_S = 60.0


class Stopped(Exception):  # noqa: N818 - not an error of the request: it stays to be done
    """The gate is shut for good; the request was not answered and stays to be done."""


class _Closed(Exception):  # noqa: N818 - no error: the attempt waits at the gate and is made later
    """The gate closed while an attempt waited for its place; nothing was sent."""


class Guard:
    """Wraps the attempts of a run. `fault` is the one that shut it, None while it is open.

    `on_pause` hears of a fault that closes the gate and for how many seconds more than one probe is made, `on_resume` of
    the gate's opening again after so many seconds. `key_env` names the variable that holds the key, for the message;
    `is_last` says whether others have their answers and nothing else is left to ask than what stopped an earlier run.
    """

    def __init__(
        self,
        clock: Clock,
        on_pause: Callable[[EndpointError, float], None],
        on_resume: Callable[[float], None] = lambda _seconds: None,
        probe_after_s: float = PROBE_AFTER_S,
        key_env: str | None = None,
        is_last: Callable[[], bool] = lambda: False,
    ) -> None:
        self.fault: EndpointError | None = None
        self.shut = anyio.Event()
        self._clock = clock
        self._on_pause = on_pause
        self._on_resume = on_resume
        self._is_last = is_last
        self._probe_after_s = probe_after_s
        self._alarm = Alarm(clock, key_env)
        self._open = anyio.Event()
        self._open.set()
        self._waiting = 0
        self._probe_request: Request | None = None
        self._ticket: _Ticket | None = None

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            while True:
                if not self._open.is_set():
                    ticket = await self._wait()
                    if ticket is not None:
                        return await self._second_probe(inner, request, ticket)
                if self.fault is not None:
                    raise Stopped
                try:
                    answer = await inner(request)
                except _Closed:
                    continue
                except EndpointError as error:
                    if not self._alarm.rings(request, error):
                        raise
                    if self.fault is not None:
                        raise Stopped from error
                    if self._open.is_set():
                        return await self._probe(inner, request, error)
                    continue
                self._alarm.answered()
                return answer

        return complete

    def check(self, request: Request) -> None:
        """Send back what waits for its turn while the gate is closed: the probe alone may pass."""
        if not self._open.is_set() and request is not self._probe_request:
            raise _Closed

    def admit(self, inner: Complete) -> Complete:
        """The gate's other side, next to the wire: what waited for its place while the gate closed is sent back."""

        async def complete(request: Request) -> Answer:
            self.check(request)
            return await inner(request)

        return complete

    def message(self) -> str:
        """What stopped the run, with the mend."""
        assert self.fault is not None
        return f"stopped ({self.fault.kind}): {self.fault.message}; {self._alarm.mend(self.fault)}"

    async def _wait(self) -> "_Ticket | None":
        """Until the gate opens or is shut; or until this request is picked to be the second probe."""
        self._waiting += 1
        try:
            while not self._open.is_set():
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
                        raise
                    if again.kind is Kind.CONNECT and self._clock.now() - since < patience_s:
                        continue
                    if await self._is_the_rows_own(again):
                        raise
                    self.fault = again
                    self.shut.set()
                    raise Stopped from again
                self._alarm.answered()
                self._on_resume(self._clock.now() - since)
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
        if not (self._alarm.answers and self._waiting and error.kind in FATAL_KINDS):
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
