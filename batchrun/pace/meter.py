"""One limit of units a minute, kept by even spacing: a unit is a request or a token. It counts; it never waits."""

import collections

import msgspec

from batchrun.clock import Clock
from batchrun.records import StatedLimit

CATCH_UP_S = 0.1
LONGEST_WINDOW_S = 120.0
"""A limit that takes longer than this to be renewed is not one of a minute, and can't be kept by spacing."""
_LEAST_SHARE = 1 / 16
_MINUTE_S = 60.0
_LEAST_WAIT_S = 0.001


class Meter:
    """Says when the next one may start. Starts that come late are made up for within 0.1 s.

    `slack` widens the spacing, so that any window of a minute stays within the rate in spite of what is made up for.
    """

    def __init__(self, per_minute: float | None, slack: float, clock: Clock) -> None:
        self.given = per_minute
        self.learnt: float | None = None
        self._slack = slack
        self._clock = clock
        self._given_s = _MINUTE_S * slack / per_minute if per_minute else 0.0
        self._spacing_s = self._given_s
        self._next = clock.now()
        self._window_s = float("inf")

    @property
    def active(self) -> bool:
        return self._spacing_s > 0

    def wait_s(self) -> float:
        """Seconds until the next may start; 0 or less when it may now."""
        return self._next - self._clock.now() if self._spacing_s else 0.0

    def take(self, units: float) -> None:
        self._next = max(self._next, self._clock.now() - CATCH_UP_S) + units * self._spacing_s

    def settle(self, units: float) -> None:
        """So many more were used than were taken; fewer, where it is below 0."""
        self._next += units * self._spacing_s

    def learn(self, stated: StatedLimit) -> None:
        """Keep what the endpoint says from now on.

        What remains is spread over the time until all is renewed. That holds for a counter that fills evenly and for one
        that starts anew with each minute; as long as more is left than the share of the time, the full rate is used.
        """
        if not self._is_of_a_minute(stated):
            return
        self.learnt = stated.limit
        spacing_s = _MINUTE_S * self._slack / stated.limit
        if stated.remaining is not None and stated.reset_s is not None:
            spacing_s = max(spacing_s, stated.reset_s / max(stated.remaining, _LEAST_SHARE * stated.limit))
        self._spacing_s = max(spacing_s, self._given_s)

    def _is_of_a_minute(self, stated: StatedLimit) -> bool:
        """Whether it is counted by the minute. Where its name doesn't say so, its numbers tell: what is used is renewed
        at the rate of the whole (Groq's requests and OpenAI's tokens of a day have the names of those of a minute).
        """
        if stated.window_s is not None:
            return stated.window_s == _MINUTE_S
        if stated.reset_s is None:
            return True
        if stated.remaining is None:
            return stated.reset_s <= LONGEST_WINDOW_S
        used = stated.limit - stated.remaining
        if used > 0:
            # the least of all: where each minute starts a new count, its first answers look like a longer window
            self._window_s = min(self._window_s, stated.reset_s * stated.limit / used)
        return self._window_s <= LONGEST_WINDOW_S


class Minute:
    """What was taken in the last minute, so that no minute holds more than `most`, however wrong the reckoning was.

    A hundredth is kept free: those in flight may yet turn out to take more than they were reckoned with.
    """

    def __init__(self, most: float, clock: Clock) -> None:
        self._most = 0.99 * most
        self._clock = clock
        self._taken: collections.deque[Entry] = collections.deque()
        self._sum = 0.0

    def wait_s(self, units: float) -> float:
        """Seconds until so many units may fit in, 0 where they do: until then there is no use in looking again."""
        since = self._clock.now() - _MINUTE_S
        while self._taken and self._taken[0].at <= since:
            entry = self._taken.popleft()
            entry.counts = False
            self._sum -= entry.units
        if not self._taken or self._sum + units <= self._most:
            return 0.0
        return max(self._taken[0].at - since, _LEAST_WAIT_S)

    def take(self, units: float) -> "Entry":
        entry = Entry(self._clock.now(), units)
        self._taken.append(entry)
        self._sum += units
        return entry

    def settle(self, entry: "Entry", units: float) -> None:
        """So many were really taken. What is older than a minute counts no more."""
        if entry.counts:
            self._sum += units - entry.units
            entry.units = units


class Entry(msgspec.Struct, gc=False):
    """Units that were taken at a moment of the clock."""

    at: float
    units: float
    counts: bool = True
