"""Units a minute, kept by even spacing: a unit is a request or a token.

What the user states is never exceeded; what the endpoint states of itself is learnt from every answer, and kept too.
"""

import collections

import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.pace.tokens import Load, TokenEstimate
from batchrun.records import Request, StatedLimit, Usage

CATCH_UP_S = 0.1
LONGEST_WINDOW_S = 120.0
"""A limit that takes longer than this to be renewed is not one of a minute, and can't be kept by spacing."""
_LEAST_SHARE = 1 / 16
_MINUTE_S = 60.0
_LEAST_WAIT_S = 0.001
_REQUEST_SLACK = 1.002
_TOKEN_SLACK = 1.02


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


class Taken(msgspec.Struct, frozen=True):
    """What one request took when it started, to be settled when it has ended."""

    load: Load
    entry: Entry | None


class Meters:
    """The limits of one endpoint together. `active` says whether there is any."""

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        estimate: TokenEstimate,
        clock: Clock,
    ) -> None:
        self._estimate = estimate
        self._tokens_per_minute = tokens_per_minute
        self._minute = None if tokens_per_minute is None else Minute(tokens_per_minute, clock)
        self._all = {
            "requests": Meter(requests_per_minute, _REQUEST_SLACK, clock),
            "tokens": Meter(tokens_per_minute, _TOKEN_SLACK, clock),
            "input_tokens": Meter(None, _TOKEN_SLACK, clock),
            "output_tokens": Meter(None, _TOKEN_SLACK, clock),
        }
        self._used: list[tuple[str, Meter]] = []
        self._look()

    @property
    def active(self) -> bool:
        return bool(self._used)

    def start(self, request: Request) -> tuple[float, Taken | None]:
        """Let a request take what it needs, if it may start now: (0, what it took, to be settled; None where tokens don't
        count). Else (seconds until it may, None). Raises EndpointError for one that will never fit.
        """
        load = self._load(request)
        wait_s = max((meter.wait_s() for _, meter in self._used), default=0.0)
        if wait_s <= 0 and self._minute is not None and load is not None:
            wait_s = self._minute.wait_s(load.tokens)
        if wait_s > 0:
            return wait_s, None
        for unit, meter in self._used:
            meter.take(_share(unit, load))
        if load is None:
            return 0.0, None
        return 0.0, Taken(load, None if self._minute is None else self._minute.take(load.tokens))

    def settle(self, request: Request, taken: Taken, usage: Usage | None) -> None:
        """What a request really took; without usage it took nothing."""
        load = taken.load
        if usage is not None:
            self._estimate.learn(request, load, usage)
        used = Load(usage.prompt, usage.completion) if usage is not None else Load(0, 0)
        for unit, meter in self._used:
            if unit != "requests":
                meter.settle(_share(unit, used) - _share(unit, load))
        if self._minute is not None and taken.entry is not None:
            self._minute.settle(taken.entry, used.tokens)

    def learn(self, limits: list[StatedLimit]) -> dict[str, float]:
        """Keep the limits that the endpoint states. Returns those that it states for the first time and that are less
        than what the user allows, in units a minute.
        """
        news = {}
        for stated in limits:
            meter = self._all[stated.unit]
            known = meter.learnt
            meter.learn(stated)
            if known is None and meter.learnt is not None and meter.learnt < (meter.given or float("inf")):
                news[stated.unit] = meter.learnt
        self._look()
        return news

    def _load(self, request: Request) -> Load | None:
        """Only what the user allows is held against a request: an endpoint says itself what is too large for it."""
        if not self._counts_tokens:
            return None
        load = self._estimate.of(request)
        most = self._tokens_per_minute
        if most is not None and load.least > most:
            raise EndpointError(
                Kind.BAD_REQUEST,
                f"the request is larger than the whole limit: about {load.prompt + load.bound:.0f} tokens (prompt and "
                f"max_tokens), and tokens_per_minute is {most:g}; lower max_tokens, or raise [limits] tokens_per_minute",
            )
        return load

    def _look(self) -> None:
        self._used = [(unit, meter) for unit, meter in self._all.items() if meter.active]
        self._counts_tokens = any(unit != "requests" for unit, _ in self._used)


def _share(unit: str, load: Load | None) -> float:
    """What a load takes of a limit."""
    if unit == "requests":
        return 1.0
    if load is None:
        return 0.0
    return {"tokens": load.tokens, "input_tokens": load.prompt}.get(unit, load.completion)
