"""Whether the endpoint is well: what the attempts of a run tell of each other. Counts and judges; never waits or asks.

The one place that counts attempts and answers, next to the wire. A fault is a row's own only where the endpoint is known
to have been well while that row failed: it answered attempts that began shortly before and shortly after. A row that was
asked only while nobody was answered is not ill.
"""

import collections

import msgspec

from batchrun.clock import Clock
from batchrun.errors import ROW_KINDS, EndpointError, Kind
from batchrun.pace.policy import SILENT_KINDS, Policy, clamped
from batchrun.pace.refusals import Refusals
from batchrun.pace.rest import Rest
from batchrun.pace.spells import IN_A_SPELL, LOOSE_S, Spell, Spells
from batchrun.records import Answer, Complete, Request

Key = tuple[int, str, int]

_LOOSE_PROOFS = 3
_OUTLIVES = 1.5
_PATIENT = 3
"""So many times as long as the slowest answer took, and it would have been there."""
_FORGET = 0.99
_KEPT = 2048
_DEATHS = 4
"""So often a connection broke during a request that it is asked alone."""
_TRIALS = 2


def is_silent(error: EndpointError) -> bool:
    """Whether a fault may be an outage's: one that states its usage comes from an endpoint that is at work."""
    return error.kind in SILENT_KINDS and error.usage is None


class Fault(msgspec.Struct, gc=False):
    """One attempt that failed, in the clock's seconds. `proof` is where the endpoint is known to have been well meanwhile:
    from the beginning of which spell on (`IN_A_SPELL` where it was within one), None where that is not known.
    """

    began: float
    ended: float
    kind: Kind
    status: int | None
    proof: float | None = None


class Health:
    """What is known of one endpoint. `asking` requests are in progress, of which `resting` wait to be asked again after a
    fault that costs nothing. `answers` were given, the first and the last of them at `first_at` and `last_at`; `shares` adds
    up what each request in progress could expect of them; `groups` are the paths and models that answered, `scouts` the rows
    far ahead that somebody waits for; `refusals` knows who was refused for good. With `condemned`, what is left is no longer
    given the benefit of the doubt.
    """

    def __init__(self, clock: Clock, rest: Rest, policy: Policy) -> None:
        self.asking = self.resting = self.answers = 0
        self.shares = 0.0
        self.started_at = self.first_at = self.last_at = clock.now()
        self.condemned = False
        self.groups: set[tuple[str, str]] = set()
        self.scouts: set[Key] = set()
        self._clock = clock
        self._rest = rest
        self._policy = policy
        self._slowest_s = self._spacing_s = self._longest_fault_s = 0.0
        self._well_at = float("-inf")
        self._last_sent: float | None = None
        self._pending: dict[int, float] = {}
        self._sent = 0
        self._faults: dict[Key, list[Fault]] = {}
        self._broken: collections.Counter[Key] = collections.Counter()
        self._trials: collections.Counter[Key] = collections.Counter()
        self._condemned: set[Key] = set()
        self._fresh: collections.deque[float] = collections.deque(maxlen=_KEPT)
        self._recent: collections.deque[tuple[float, Key]] = collections.deque(maxlen=_KEPT)
        self._spells = Spells()
        self.refusals = Refusals()

    def watched(self, inner: Complete) -> Complete:
        """`inner`, next to the wire, with every attempt and every answer counted."""

        async def complete(request: Request) -> Answer:
            began = self._clock.now()
            if self._last_sent is not None:
                self._spacing_s = max(began - self._last_sent, _FORGET * self._spacing_s)
            self._last_sent = began
            self._sent += 1
            number = self._sent
            self._pending[number] = began
            try:
                answer = await inner(request)
            except EndpointError as error:
                self._failed(request, error, began)
                raise
            finally:
                del self._pending[number]
            self._answered(request, began)
            return answer

        return complete

    @property
    def gives_up(self) -> bool:
        """Whether rows that nobody answers shall fail: of an endpoint that answered somebody, in this call or before."""
        return self._rest.gives_up and (self.answers > 0 or self._rest.others_ok)

    @property
    def in_flight(self) -> int:
        """Attempts on the wire."""
        return len(self._pending)

    @property
    def answering_s(self) -> float:
        """From the first answer to the last."""
        return self.last_at - self.first_at

    @property
    def silent_s(self) -> float:
        """Since the last answer, or since the start."""
        return self._clock.now() - self.last_at

    @property
    def is_silent(self) -> bool:
        """Whether enough rows failed, each asked for the first time since the endpoint was known to be well, and what is
        pending besides can't change that: an outage, or rows that nobody would answer.

        An answer to what was sent before says nothing of it. What was sent since and is still pending may be answered yet:
        it counts against an outage, until an answer would be there.
        """
        least = self._policy.outage_rows
        if not self.answers and self._rest.is_last:
            least = min(least, max(self.asking, 1))
        if len(self._fresh) < least:
            return False
        now = self._clock.now()
        if self.answers:
            pending = sum(began > self._well_at for began in self._pending.values())
            edge = now - self._slowest_s
        else:
            # what takes longer than a fault does may be an answer
            pending = sum(now - began > _OUTLIVES * self._longest_fault_s for began in self._pending.values())
            pending *= len(self._fresh) + 1
            edge = now - self._policy.never_answered_s
        return pending <= len(self._fresh) or sum(began <= edge for began in self._fresh) >= least

    @property
    def lasts(self) -> bool:
        """Whether that has lasted for longer than those that were on the wire before could take."""
        return self.silent_s >= self._policy.lasting_s + self._slowest_s

    @property
    def patience_s(self) -> float:
        """For how many seconds more an endpoint that answers nobody is waited for.

        Where every row that is left was asked, nobody else can tell whether it is the endpoint or the rows: then it is as
        long as the endpoint had been answering, and short where a person says that they shall fail.
        """
        policy = self._policy
        if not self.answers and not self.gives_up:
            return policy.never_answered_s - self.silent_s
        if not self._rest.is_last:
            return policy.silent_s - self.silent_s
        if self.gives_up:
            return policy.last_patience_s - self.silent_s
        return clamped(self.answering_s, policy.last_patience_s, policy.silent_s) - self.silent_s

    def attempts(self, key: Key) -> int:
        """How many attempts at a request failed that are not known to be the endpoint's fault."""
        return len(self._unexplained(key))

    def is_ill(self, key: Key, most: int, kind: Kind | None = None) -> bool:
        """Whether a request has failed `most` times, and is known to fail by itself: at least one fault such as the last
        one came while the endpoint was well. With `kind`, only such faults count.
        """
        if key in self._condemned:
            return True
        faults = self._unexplained(key)
        counted = sum(fault.kind is kind for fault in faults) if kind is not None else len(faults)
        if counted < most or not faults:
            return False
        last = faults[-1]
        proofs = {one.proof for one in faults if (one.kind, one.status) == (last.kind, last.status)} - {None}
        return self.condemned or IN_A_SPELL in proofs or len(proofs) >= min(_LOOSE_PROOFS, most)

    def is_suspect(self, key: Key) -> bool:
        """Whether the connection broke again and again while a request was on the wire, though others are answered: it may
        be the one that the endpoint dies of, or one that was beside it.
        """
        if not self._broken or not self.answers or key in self._condemned:
            return False
        return self._broken[key] >= min(_DEATHS, self._policy.max_attempts)

    def condemn(self, key: Key) -> None:
        """A request failed alone, and the next one was answered: its faults are its own."""
        self._condemned.add(key)

    def forget(self, key: Key) -> None:
        """A request has ended."""
        self._faults.pop(key, None)
        self.refusals.forget(key)
        self._condemned.discard(key)
        self.clear(key)

    def failed_alone(self, key: Key) -> bool:
        """Count that the endpoint died of a request that was asked alone, and answered the next one. True where that is
        enough.
        """
        self._trials[key] += 1
        return self._trials[key] >= _TRIALS

    def clear(self, key: Key) -> None:
        """A request that was asked alone has done no harm."""
        self._broken.pop(key, None)
        self._trials.pop(key, None)

    def _unexplained(self, key: Key) -> list[Fault]:
        """The faults of a request without those that a time in which nobody was answered explains."""
        faults = self._faults.get(key)
        if not faults or not self._spells:
            return faults or []
        since = self._spells.last_since
        for fault in faults:
            if fault.proof is None:
                fault.proof = self._proof(fault)
        kept = [fault for fault in faults if fault.proof is not None or fault.began >= since]
        self._faults[key] = kept
        return kept

    def _proof(self, fault: Fault) -> float | None:
        """Where the endpoint was well from when an attempt began until it failed, or until it would have been answered."""
        ended = fault.ended
        if fault.kind is Kind.TIMEOUT:
            ended = min(ended, fault.began + _PATIENT * self._slowest_s)
        return self._spells.proof(fault.began, ended, self._is_close)

    def _failed(self, request: Request, error: EndpointError, began: float) -> None:
        self._last_sent = None
        if not is_silent(error):
            self.refusals.refused(request, error, began)
            if error.kind in ROW_KINDS or error.usage is not None:
                self._is_well_at(began)  # it was that one alone that was said no to, or nothing of use
            return
        if error.kind is Kind.DISCONNECTED:
            self._broken[request.key] += 1
        faults = self._faults.setdefault(request.key, [])
        if not faults and began > self._well_at:
            self._fresh.append(began)
        now = self._clock.now()
        self._longest_fault_s = max(self._longest_fault_s, now - began)
        faults.append(Fault(began, now, error.kind, error.status))
        self._recent.append((began, request.key))

    def _answered(self, request: Request, began: float) -> None:
        now = self._clock.now()
        self.last_at = now
        if not self.answers:
            self.first_at = now
        self.answers += 1
        self.groups.add((request.path, request.model))
        self.shares += 1 / max(self.asking, 1)
        self._slowest_s = max(now - began, _FORGET * self._slowest_s)
        self._is_well_at(began)
        self._spells.add(began, now)
        self.refusals.answered(request, began, now)
        if self._faults:
            self.forget(request.key)

    def _is_well_at(self, began: float) -> None:
        """What was sent before the endpoint was well, and failed, failed for itself."""
        if began > self._well_at:
            self._well_at = began
            while self._fresh and self._fresh[0] <= began:
                self._fresh.popleft()

    def _is_close(self, before: Spell, after: Spell) -> bool:
        """Whether little time lies between two spells, or only one row failed in it, where answers take long or few are
        asked for.
        """
        gap_s = after.since - before.until
        if gap_s <= LOOSE_S:
            return True
        if gap_s > 2 * max(self._slowest_s, self._spacing_s):
            return False
        return len({key for began, key in self._recent if before.until < began < after.since}) <= 1
