"""Kept connections of each place, the freshest used first, and what is learnt of the place from those that it closed.

The freshest has been idle for the shortest time, so the other side has most likely not closed it. A place that closes
kept connections after a while, or right behind each answer, soon shows for how long it keeps them: what has been idle
for nearly as long is not used again.
"""

import asyncio
from collections import defaultdict

from batchrun.wire.http1.connection import Connection
from batchrun.wire.http1.dial import Place

LONGEST_IDLE_S = 55.0
"""So long a connection is kept: load balancers close at 60 s and later."""
REST_S = 0.005
"""As long as nobody knows whether a place keeps connections at all, one has to have been idle for so long."""
_SPARE = 0.8
_SPARE_S = 0.05
_REMEMBERED_S = 60.0
_AT_ONCE_S = 1.0
_FORGOTTEN_S = 0.5


class Habit:
    """For how long a place keeps connections. What was learnt is forgotten after a minute: it may have been a restart."""

    def __init__(self) -> None:
        self._longest_s = LONGEST_IDLE_S
        self._until = 0.0
        self._keeps = False

    def closed(self, now: float, idle_s: float) -> None:
        """The place closed a connection that had been idle for so long."""
        longest_s = idle_s * _SPARE - _SPARE_S
        self._longest_s = longest_s if now >= self._until else min(self._longest_s, longest_s)
        self._until = now + _REMEMBERED_S
        self._keeps = False

    def kept(self, idle_s: float) -> None:
        """A connection that had been idle for so long brought another answer."""
        self._keeps = self._keeps or idle_s >= REST_S

    def longest_s(self, now: float) -> float:
        """For how long a connection may have been idle; below 0 where none may be used again."""
        return self._longest_s if now < self._until else LONGEST_IDLE_S

    def least_s(self) -> float:
        """For how long it has to have been idle."""
        return 0.0 if self._keeps else REST_S


class Pool:
    """Every connection, those that are in use too: `close` ends them all."""

    def __init__(self) -> None:
        self._kept: defaultdict[Place, list[Connection]] = defaultdict(list)
        self._habits: defaultdict[Place, Habit] = defaultdict(Habit)
        self._all: dict[Connection, Place] = {}

    def habit(self, place: Place) -> Habit:
        """What is learnt of a place."""
        return self._habits[place]

    def add(self, line: Connection, place: Place) -> None:
        if not line.has_ended:
            self._all[line] = place

    def take(self, place: Place) -> Connection | None:
        """The freshest of the kept ones that is open and may be used; those that are too old are closed."""
        kept, habit, now = self._kept[place], self._habits[place], _now()
        longest_s, least_s = habit.longest_s(now), habit.least_s()
        for at in range(len(kept) - 1, -1, -1):
            line = kept[at]
            idle_s = now - line.idle_since
            if line.has_ended or idle_s > min(longest_s, line.keeps_s):
                for old in kept[: at + 1] if not line.has_ended else (line,):
                    old.close()
                    kept.remove(old)
                if not line.has_ended:
                    return None
            elif idle_s >= least_s:
                del kept[at]
                return line
        return None

    def give_back(self, line: Connection, place: Place, keeps_s: float | None) -> None:
        """Keep a connection whose answer has come whole; `keeps_s` is for how long the place says that it does."""
        now = _now()
        habit = self._habits[place]
        if line.is_reused:
            habit.kept(line.used_at - line.idle_since)
        if habit.longest_s(now) <= 0.0:
            line.close()
            return
        # a place that states for how long it keeps is left a moment to spare
        line.keeps_s = LONGEST_IDLE_S if keeps_s is None else min(LONGEST_IDLE_S, keeps_s - min(1.0, keeps_s / 2))
        line.rest(now)
        kept = self._kept[place]
        kept.append(line)
        if now - kept[0].idle_since > LONGEST_IDLE_S:
            kept.pop(0).close()

    def failed(self, line: Connection, place: Place) -> None:
        """A connection that was used again was lost: at once, then as long as it had been idle is too long."""
        now = _now()
        if now - line.used_at <= _AT_ONCE_S:
            self._habits[place].closed(now, line.used_at - line.idle_since)

    def silent(self, line: Connection, place: Place) -> None:
        """Not one byte came for what was sent on a kept connection, until nobody waited any more: perhaps somebody on the way has
        forgotten it while it was idle. One that was hardly idle was not forgotten.
        """
        idle_s = line.used_at - line.idle_since
        if idle_s >= _FORGOTTEN_S:
            self._habits[place].closed(_now(), idle_s)

    def lost(self, line: Connection) -> None:
        """A connection has ended, by whomever."""
        place = self._all.pop(line, None)
        if place is not None and line.is_idle:
            if not line.is_closing:
                self._habits[place].closed(_now(), _now() - line.idle_since)
            if line in self._kept[place]:
                self._kept[place].remove(line)

    def close(self) -> None:
        for line in list(self._all):
            line.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
