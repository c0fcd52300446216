"""One limit of units a minute, kept by even spacing: a unit is a request or a token. It counts; it never waits."""

import collections

import msgspec

from batchrun.clock import Clock
from batchrun.records import StatedLimit

CATCH_UP_S = 0.1
LONGEST_WINDOW_S = 120.0
"""A limit that takes longer than this to be renewed is not one of a minute, and can't be kept by spacing."""
_LITTLE = 1 / 4
_LEAST_SHARE = 1 / 16
_MINUTE_S = 60.0
_LEAST_WAIT_S = 0.001
_SECOND_S = 1.0
_ODD_S = _MINUTE_S / 2
"""What is used of a limit of a minute is renewed at the rate of the whole, or all at once: any other pace is odd."""
_BELIEVED = 10
"""So many answers beyond those in flight may say the same of a counter that ought to move."""


class Meter:
    """Says when the next one may start. Starts that come late are made up for within 0.1 s.

    `slack` widens the spacing, so that any window of a minute stays within the rate in spite of what is made up for.
    """

    def __init__(self, per_minute: float | None, slack: float, clock: Clock) -> None:
        self.learnt: float | None = None
        self._slack = slack
        self._clock = clock
        self._given_s = _MINUTE_S * slack / per_minute if per_minute else 0.0
        self._full_s = self._slowed_s = self._given_s
        self._next = clock.now()
        self._renewed_at = float("-inf")
        self._window_s = float("inf")
        self._of_second: bool | None = None
        self._last: StatedLimit | None = None
        self._same = 0
        self._believed = _BELIEVED
        self.doubted = False

    @property
    def active(self) -> bool:
        return self._full_s > 0

    def wait_s(self) -> float:
        """Seconds until the next may start; 0 or less when it may now."""
        return self._next - self._clock.now() if self._full_s else 0.0

    def take(self, units: float) -> None:
        since = max(self._next, self._clock.now() - CATCH_UP_S)
        # what is slowed down for the sake of the rest need not be any more, once all is renewed
        self._next = max(since + units * self._full_s, min(since + units * self._slowed_s, self._renewed_at))

    def settle(self, units: float) -> None:
        """So many more were used than were taken; fewer, where it is below 0."""
        self._next += units * self._full_s

    def allow(self, per_minute: float) -> None:
        """Keep another rate from now on; what is due later than it allows is due then."""
        before_s, self._given_s = self._given_s, _MINUTE_S * self._slack / per_minute
        if self._full_s <= before_s or self.learnt is None:
            self._full_s = self._slowed_s = self._given_s
        else:
            self._full_s = max(_MINUTE_S * self._slack / self.learnt, self._given_s)
            self._slowed_s = max(self._slowed_s, self._full_s)
        self._next = min(self._next, self._clock.now() + self._given_s)

    def charge(self, units: float, since: float) -> None:
        """So many were taken since a moment, before the limit was known: the next may start as if it had been."""
        self._next = max(self._next, since + units * self._full_s)

    def believe(self) -> None:
        """The endpoint refuses for its rate: what it states is kept again, and doubted later than before."""
        self._same = 0
        if self.doubted:
            self.doubted = False
            self._believed *= 2

    def learn(self, stated: StatedLimit, in_flight: int = 0) -> None:
        """Keep what the endpoint says from now on, as long as that agrees with what happens; `in_flight` were sent already.

        While a good part of the limit is left, it may be used at the full rate: counters that fill evenly and those that
        look back over a minute allow it. Where little is left, that is spread over the time until all is renewed.
        """
        self._doubt(stated, in_flight)
        window_s = self._window(stated)
        if window_s is None or self.doubted:
            self._full_s = self._slowed_s = self._given_s
            return
        if self._of_second is not None or self._window_s >= _ODD_S:
            self.learnt = stated.limit * _MINUTE_S / window_s
        self._full_s = max(window_s * self._slack / stated.limit, self._given_s)
        self._slowed_s = self._full_s
        if stated.remaining is None or stated.reset_s is None or (window_s <= _SECOND_S and self._of_second):
            return  # of a second: what an answer says of it is over
        self._renewed_at = self._clock.now() + stated.reset_s
        if stated.remaining < _LITTLE * stated.limit:
            rest = max(stated.remaining, _LEAST_SHARE * stated.limit)
            self._slowed_s = max(self._full_s, stated.reset_s / rest)

    def _doubt(self, stated: StatedLimit, in_flight: int) -> None:
        """Count answers that say the same of what remains, though each has taken something: where little is left, or where
        the time until all is renewed isn't that of a counter that fills evenly, it would have to move.
        """
        last, self._last = self._last, stated
        if last is None or stated.remaining is None or last.remaining != stated.remaining:
            self._same = -in_flight
            self.doubted = False
            return
        used = stated.limit - stated.remaining
        odd = stated.reset_s is not None and used > 0 and abs(stated.reset_s * stated.limit / used - _MINUTE_S) > _ODD_S
        if odd or stated.remaining < _LITTLE * stated.limit:
            self._same += 1
            self.doubted = self.doubted or self._same > self._believed

    def _window(self, stated: StatedLimit) -> float | None:
        """What the limit is counted over, in seconds; None where that is too long to be kept by spacing, or unknown.

        Where its name doesn't say so, its numbers tell: what is used is renewed at the rate of the whole (Groq's requests
        and OpenAI's tokens of a day have the names of those of a minute).
        """
        if stated.window_s is not None or stated.reset_s is None:
            self._of_second = False
            window_s = _MINUTE_S if stated.window_s is None else stated.window_s
            return window_s if window_s <= _MINUTE_S else None
        if stated.reset_s > LONGEST_WINDOW_S:
            self._window_s = float("inf")
            return None
        if stated.remaining is None:
            self._of_second = False
            return _MINUTE_S
        used = stated.limit - stated.remaining
        if used > 0 and stated.reset_s > 0:
            # the least of all: where each minute starts a new count, its first answers look like a longer window
            self._window_s = min(self._window_s, stated.reset_s * stated.limit / used)
        self._tell_second(stated.reset_s)
        if self._window_s > LONGEST_WINDOW_S:
            return None
        return _SECOND_S if self._of_second else _MINUTE_S

    def _tell_second(self, reset_s: float) -> None:
        """Whether it is a limit of a second. Within one second the end of a minute looks the same, so the next count tells:
        that of a minute has most of it to go.
        """
        if reset_s > _SECOND_S:
            self._of_second = False
        elif (
            self._of_second is None and self._window_s < _ODD_S and self._clock.now() > self._renewed_at > float("-inf")
        ):
            self._of_second = True


class Minute:
    """What was taken in the last minute, so that no minute holds more than `most`: those in flight count with the longest
    answer that is to be expected. A hundredth is kept free, for some may be longer still.
    """

    def __init__(self, most: float, clock: Clock) -> None:
        self._most = 0.99 * most
        self._clock = clock
        self._taken: collections.deque[Entry] = collections.deque()
        self._sum = 0.0

    def wait_s(self, units: float) -> float:
        """Seconds until so many units may fit in, 0 where they do: until then there is no use in looking again."""
        since = self._clock.now() - _MINUTE_S
        while self._taken and (self._taken[0].at <= since or not self._taken[0].units):
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
