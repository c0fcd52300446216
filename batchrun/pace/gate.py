"""The gate: faults that every row would meet close it, and one probe at a time finds out when it may open again, or that
the run has to end (endpoint.md §4).

Three states. OPEN: everybody asks. PROBING: nothing new is sent but by the one whose turn it is. SHUT: the run has been
asked to stop. Only faults of what is on the wire lead into PROBING, only the holder of the turn leads out of it:

    OPEN     a fault that is everybody's                            → PROBING; its row has the first turn
    PROBING  the turn is answered                                   → OPEN; a suspect raises its own fault
    PROBING  a fault of another sort                                → OPEN; raised
    PROBING  refused for good, and no other row was asked about it  → PROBING; this row is the suspect, another is next, at once
    PROBING  the same fault, and the time is up                     → SHUT; OPEN where the first answers have come meanwhile
    PROBING  the same fault                                         → PROBING; the wait doubles, perhaps a scout is sent
"""

from collections.abc import Collection

import msgspec

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.events import Hear, Paused, Resumed
from batchrun.pace.advice import stop_message
from batchrun.pace.closure import Closure, next_probe
from batchrun.pace.diagnosis import Diagnosis, group_of, may_be_absence
from batchrun.pace.health import Health, Key
from batchrun.pace.policy import FREE_KINDS, SILENT_KINDS, Policy
from batchrun.pace.rest import Groups, Rest
from batchrun.pace.turns import Place, Turns
from batchrun.records import Answer, Complete, Request
from batchrun.stop import UNANSWERED, Stop, StopSign

_LOOK_AGAIN_S = 1.0


class Closed(Exception):  # noqa: N818 - no error: the attempt waits at the gate and is made later
    """The gate closed while an attempt waited for its place; nothing was sent."""


class Gate:
    """Wraps the attempts of a run. `key_env` names the variable that holds the key, for messages, `named` are the models
    that the job and its variants ask for.
    """

    def __init__(
        self,
        clock: Clock,
        stop: StopSign,
        health: Health,
        rest: Rest,
        hear: Hear,
        policy: Policy,
        key_env: str | None = None,
        named: Collection[str] = (),
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._health = health
        self._rest = rest
        self._hear = hear
        self._policy = policy
        self._key_env = key_env
        self._diagnosis = Diagnosis(clock, health, policy, named)
        self._turns = Turns(self._next)
        self._closure: Closure | None = None
        self._released: dict[Key, EndpointError] = {}

    def wrap(self, inner: Complete) -> Complete:
        """`inner`, asked when the gate is open, or in turn."""

        async def complete(request: Request) -> Answer:
            refused: EndpointError | None = None
            try:
                while True:
                    self._stop.check()
                    own = self._released.pop(request.key, None) or refused
                    if own is not None and self._closure is None:
                        raise own
                    if self._closure is None and self._health.is_suspect(request.key):
                        self._try_alone()
                    if self._closure is not None:
                        answer = await self._in_turn(inner, request)
                        if answer is not None:
                            return answer
                        continue
                    try:
                        return await inner(request)
                    except Closed:
                        continue
                    except EndpointError as error:
                        if not self._closes(request, error):
                            raise
                        refused = error if error.kind in ROW_KINDS else None
            finally:
                self._diagnosis.forget(request.key)

        return complete

    def check(self, request: Request) -> None:
        """Send back what waited for its place while the gate closed: the one whose turn it is alone may pass. To be asked
        right before the wire.
        """
        self._stop.check()
        if self._closure is not None and not self._turns.has(request):
            raise Closed

    def _closes(self, request: Request, error: EndpointError) -> bool:
        """What a fault of somebody without a turn does. True where its request is to wait at the gate."""
        self._stop.check()
        if self._closure is not None:
            return self._diagnosis.is_common(self._closure.cause, error) and not self._diagnosis.is_own(request, error)
        closing = self._diagnosis.closes(request, error)
        if closing is None:
            return False
        if closing.patience_s < 0.0:  # a probe would cost as much as what it is to find out
            self._shut(error)
            self._stop.check()
        now, wait_s = self._clock.now(), self._policy.first_probe_s
        until = now + closing.patience_s
        known = self._health.answers > 0
        self._closure = Closure(error, now, until, now + wait_s, wait_s, known, most_probes=closing.probes)
        self._hear(Paused(error, closing.told_s))
        if error.kind in SILENT_KINDS - {Kind.CONNECT}:
            self._send_scout()
        return True

    def _try_alone(self) -> None:
        """Ask a row alone that the connection broke with again and again: what dies of it shall take nobody along."""
        now = self._clock.now()
        cause = EndpointError(Kind.DISCONNECTED, "the connection broke again and again while one row was on the wire")
        until = now + self._health.patience_s
        self._closure = Closure(cause, now, until, now, self._policy.first_probe_s, known=True, trial=True, told=False)

    async def _in_turn(self, inner: Complete, request: Request) -> Answer | None:
        """Wait until the gate is open, or until it is this request's turn to be the probe. None where it is to look again."""
        if not await self._turns.wait(request):
            return None
        try:
            if not await self._may_probe():
                return None
            try:
                answer = await inner(request)
            except EndpointError as error:
                if self._judge(request, error):
                    raise
                return None
            self._open(answered=request)
            return answer
        finally:
            self._turns.done()

    async def _may_probe(self) -> bool:
        """Wait for the moment of the next probe. False where the gate has opened, or the run is ending."""
        while (closure := self._closure) is not None and self._stop.stop is None:
            wait_s = closure.next_at - self._clock.now()
            if closure.trial and closure.suspect is None and self._health.in_flight:
                wait_s = max(wait_s, _LOOK_AGAIN_S)
            if wait_s <= 0.0:
                return True
            await self._clock.sleep(min(wait_s, _LOOK_AGAIN_S))
        return False

    def _judge(self, request: Request, error: EndpointError) -> bool:
        """What a probe's fault says. True where it is to be raised: the gate is open then."""
        closure = self._closure
        assert closure is not None
        fatal = error.kind in FATAL_KINDS
        its_own = self._diagnosis.is_missing(request, error)
        its_own = its_own or (fatal and self._rest.is_last_again and not error.of_model)
        its_own = its_own or self._diagnosis.is_proven(request, error)
        if its_own or not self._diagnosis.is_common(closure.cause, error):
            self._open()
            return True
        self._diagnosis.add(request, error)
        refused = {group_of(request)} if may_be_absence(error) else frozenset()
        self._closure = closure = msgspec.structs.replace(
            closure, probes=closure.probes + 1, groups=closure.groups | refused
        )
        may_be_its_own = fatal or closure.cause.kind in ROW_KINDS or closure.trial
        if may_be_its_own and closure.suspect is None and closure.probes == 1:
            now = self._clock.now()
            self._closure = msgspec.structs.replace(
                closure, suspect=request, doubted=error, next_at=now, doubted_at=now
            )
            if self._asks_elsewhere() or self._send_scout(expected=True) or self._turns.line:
                return False  # another one is asked at once
        elif refused and not self._health.answers and self._asks_elsewhere():
            return False  # each model has its turn before a run is stopped
        self._goes_on(request, error)
        return False

    def _asks_elsewhere(self) -> bool:
        """Where models or paths were refused that may not be there, have one of another asked at once, if there is one."""
        closure = self._closure
        assert closure is not None
        if not closure.groups or closure.trial:
            return False
        waits = any(group_of(one) not in closure.groups for one in self._turns.line)
        if not waits and not self._send_scout(expected=True, unlike=closure.groups):
            return False
        self._closure = msgspec.structs.replace(self._closure or closure, next_at=self._clock.now())
        return True

    def _goes_on(self, request: Request, error: EndpointError) -> None:
        """The fault lasts: another probe later, or the end."""
        closure, policy = self._closure, self._policy
        assert closure is not None
        now = self._clock.now()
        longest_s = policy.longest_free_wait_s if self._health.answers else policy.longest_unknown_wait_s
        if error.kind not in FREE_KINDS:
            longest_s = policy.longest_probe_wait_s
        wait_s = min(2 * closure.wait_s, longest_s)
        if now >= closure.until or closure.probes == closure.most_probes:
            by_chance = closure.suspect is not None and closure.suspect is not request and len(closure.scouts) == 1
            if by_chance and not closure.trial and self._send_scout(expected=True, halfway=True):
                return  # the one far row may be such a one too: another is asked before a run is stopped
            self._give_up(error)
            return
        closure = msgspec.structs.replace(closure, next_at=min(now + wait_s, closure.until), wait_s=wait_s)
        if closure.suspect is not None and closure.suspect is not request and not closure.trial:
            closure = msgspec.structs.replace(closure, suspect=None, doubted=None)  # two met it: it is neither's own
        if not closure.told:
            closure = msgspec.structs.replace(closure, told=True)
            self._hear(Paused(error, closure.until - now))
        self._closure = closure
        all_refused = closure.cause.kind in FATAL_KINDS and all(map(self._diagnosis.was_refused, self._turns.line))
        if all_refused or error.kind in SILENT_KINDS - {Kind.CONNECT}:
            self._send_scout()

    def _give_up(self, error: EndpointError) -> None:
        """The time is up. Where nobody had been answered, and what was on the wire has been since, all ask: the next fault is
        judged by that. Where a person says so, rows that nobody answers fail.
        """
        closure = self._closure
        if closure is not None and self._health.answers and not closure.known:
            self._open()
        elif error.kind in SILENT_KINDS and self._health.gives_up:
            self._health.condemned = True
            self._open(gave_up=True)
        else:
            self._shut(error)

    def _shut(self, error: EndpointError) -> None:
        unanswered = error.kind in SILENT_KINDS and self._health.answers
        self._stop.ask(Stop(UNANSWERED if unanswered else str(error.kind), stop_message(error, self._key_env)))
        self._closure = None
        self._turns.send_all_on()

    def _open(self, *, answered: Request | None = None, gave_up: bool = False) -> None:
        closure = self._closure
        if closure is None:
            return
        self._closure = None
        if answered is not None:
            self._health.clear(answered.key)
            self._release(closure, answered)
            if answered.key in closure.scouts and closure.cause.kind in SILENT_KINDS:
                self._rest.mix()
        self._turns.send_all_on()
        if closure.told:
            self._hear(Resumed(self._clock.now() - closure.since, answered=not gave_up))

    def _release(self, closure: Closure, answered: Request) -> None:
        """Another row is answered: the fault of the one that was suspected is its own."""
        suspect, fault = closure.suspect, closure.doubted
        if suspect is None or fault is None or suspect is answered:
            return
        if closure.trial:
            soon = self._clock.now() - closure.doubted_at <= self._policy.restart_s
            died = soon and fault.kind is Kind.DISCONNECTED
            if not (died and self._health.failed_alone(suspect.key)):
                return  # perhaps it met an outage: it is tried once more
        self._diagnosis.acquit(suspect, fault)
        self._health.condemn(suspect.key)
        self._released[suspect.key] = fault

    def _send_scout(self, *, expected: bool = False, unlike: Groups = frozenset(), halfway: bool = False) -> bool:
        """Have a row far ahead asked, whose answer tells rows that nobody would answer from an outage. After the first few,
        one more each time the number of probes has doubled: a closure of hours takes a handful. Of models that were not asked
        yet each has one: `unlike` are those that were.
        """
        closure = self._closure
        assert closure is not None
        most = self._policy.most_models if unlike else self._policy.scouts
        many = len(closure.scouts) >= most and closure.probes & (closure.probes - 1)
        request = None if many else self._rest.scout(unlike, halfway=halfway, only_unlike=bool(unlike))
        if request is None:
            return False
        self._health.scouts.add(request.key)
        scouts = closure.scouts | {request.key}
        due = request.key if expected else closure.expected
        unasked = closure.unasked | {request.key}
        self._closure = msgspec.structs.replace(closure, scouts=scouts, unasked=unasked, expected=due)
        return True

    def _next(self, line: list[Place]) -> Place | None:
        """Whose turn it is; None where nobody's yet."""
        if self._closure is None:
            return line[0]
        found, self._closure = next_probe(self._closure, line, self._diagnosis.was_refused)
        return found
