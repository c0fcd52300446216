"""Whether the endpoint answers anybody: what the requests of a run know of each other. Counts and judges; never waits.

That one row fails is told from an outage by the other rows: those that are asked for the first time are as good as any,
while those that were asked beside others that had their answers may be the ones that never will.
"""

import collections
import math
from collections.abc import Callable

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.records import Answer

OUTAGE_KINDS = frozenset({Kind.CONNECT, Kind.SERVER})
"""Faults of an endpoint that is not well, which cost nothing."""
SILENT_KINDS = OUTAGE_KINDS | {Kind.TIMEOUT, Kind.DISCONNECTED, Kind.MALFORMED}
"""And those of one that may bill what it does not deliver."""
OUTAGE_ROWS = 8
"""So many rows, each asked for the first time since anybody was answered, and each in vain: an outage."""
NEVER_ANSWERED_ROWS = 50
"""So many where nobody was answered yet: a small job that is refused as a whole has failed."""
LASTING_S = 10.0
"""An outage that has lasted so much longer than an answer takes is waited out."""
LEAST_PATIENCE_S = 120.0
MOST_PATIENCE_S = 3600.0
ALONE_PATIENCE_S = 600.0
_UNKNOWN_S = 60.0
"""How long an answer may take, while none has come."""


class Answers:
    """When the answers of a run came. `answering_s` is from the first to the last, `silent_s` since the last one (or since
    the start), seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self.last_at = clock.now()
        self._first_at = self.last_at
        self._clock = clock

    def add(self) -> None:
        self.last_at = self._clock.now()
        if not self.count:
            self._first_at = self.last_at
        self.count += 1

    @property
    def answering_s(self) -> float:
        return self.last_at - self._first_at

    @property
    def silent_s(self) -> float:
        return self._clock.now() - self.last_at


class Pulse:
    """`asking` requests are in progress; `shares` adds up what each of them could expect of the answers. `is_last` says
    whether nothing is left that was not asked yet: those that fail then may be rows that nobody would answer.
    """

    def __init__(self, clock: Clock, is_last: Callable[[], bool] = lambda: False) -> None:
        self.answers = Answers(clock)
        self.asking = 0
        self.shares = 0.0
        self.is_last = is_last
        self._clock = clock
        self._slowest_s = 0.0
        self._well_at = clock.now()
        self._in_vain: collections.deque[float] = collections.deque(maxlen=2048)
        self._pending: dict[int, float] = {}
        self._sent = 0

    def sent(self) -> int:
        """An attempt goes on the wire; returns its number."""
        self._sent += 1
        self._pending[self._sent] = self._clock.now()
        return self._sent

    def ended(self, number: int) -> None:
        """It is on the wire no more."""
        del self._pending[number]

    def beat(self, answer: Answer) -> None:
        """One of those in progress was answered."""
        self.answers.add()
        self.shares += 1 / self.asking
        latency_s = answer.latency_s or 0.0
        self._slowest_s = max(latency_s, 0.99 * self._slowest_s)
        self._was_well(self._clock.now() - latency_s)

    def failed_at_first(self, error: EndpointError) -> None:
        """A request failed that had never been on the wire before. Where it was said no to that one alone, the endpoint was
        well.
        """
        if error.began_at is None:
            return
        if error.kind in ROW_KINDS | FATAL_KINDS:
            self._was_well(error.began_at)
        elif error.kind in SILENT_KINDS and error.began_at > self._well_at:
            self._in_vain.append(error.began_at)

    @property
    def outage(self) -> bool:
        """Whether the endpoint answers nobody that it is asked for now: with faults, with rubbish, or not at all.

        An answer to what was sent before says nothing of it. What was sent since and is still pending may be answered yet:
        it counts against an outage, until an answer would be there.
        """
        least = OUTAGE_ROWS if self.answers.count else NEVER_ANSWERED_ROWS
        if len(self._in_vain) < least:
            return False
        pending = sum(began > self._well_at for began in self._pending.values())
        if pending <= len(self._in_vain):
            return True
        edge = self._clock.now() - (self._slowest_s if self.answers.count else _UNKNOWN_S)
        return sum(began <= edge for began in self._in_vain) >= least

    @property
    def lasting_outage(self) -> bool:
        """Whether it has done so for longer than those that were on the wire before could take."""
        return self.answers.silent_s >= LASTING_S + self._slowest_s and self.outage

    def excuses(self, error: EndpointError) -> bool:
        """Whether such a fault is held against no row for now."""
        return error.kind in SILENT_KINDS and self.outage

    @property
    def patience_s(self) -> float:
        """How much longer an outage may be one, where it may as well be that nobody would answer the rows that are left.

        In all as long as the endpoint had been answering, two minutes at least and an hour at most; infinite while others
        can still tell.
        """
        if not self.is_last():
            return math.inf
        return max(LEAST_PATIENCE_S, min(self.answers.answering_s, MOST_PATIENCE_S)) - self.answers.silent_s

    @property
    def recently_well(self) -> bool:
        """Whether it was answering, until a while ago, for longer than that while: ten minutes at most."""
        return self.answers.silent_s < min(self.answers.answering_s, ALONE_PATIENCE_S)

    def _was_well(self, began_at: float) -> None:
        """The endpoint was well when an attempt began: what was sent before it and failed, failed for itself."""
        if began_at > self._well_at:
            self._well_at = began_at
            while self._in_vain and self._in_vain[0] <= began_at:
                self._in_vain.popleft()
