"""The limits of one endpoint together: requests and tokens a minute, the user's and its own. They count and never wait.

What the user allows is kept, whatever the endpoint states; what that states is learnt from every answer, and kept too.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.pace.meter import Entry, Meter, Minute
from batchrun.pace.tokens import UNKNOWN_COMPLETION, Load, TokenEstimate
from batchrun.records import Request, StatedLimit, Usage

_REQUEST_SLACK = 1.002
_TOKEN_SLACK = 1.02
_MOST_METERS = 64
_FAR = 10
"""A limit that turns out to be so many times as large is news."""
EVERYBODY = ""
"""In the place of a model: a limit that counts the requests to all of them."""


class Key(NamedTuple):
    """Which limit it is: each has its own meter, for all of them are to be kept."""

    model: str
    unit: str
    scope: str = ""
    window_s: float | None = None


class Out(NamedTuple):
    """What is out at an endpoint: `in_flight` now, and `sent` since a moment of the clock, without what it refused."""

    in_flight: int
    sent: int
    since: float


class News(NamedTuple):
    """Limits that are kept from now on, in units a minute, and the units of those that are no longer believed."""

    learnt: dict[str, float]
    dropped: list[str]


class Taken(msgspec.Struct, frozen=True):
    """What one request took when it started, to be settled when it has ended."""

    number: int
    load: Load
    entry: Entry | None


class Meters:
    """The limits of one endpoint together. `active` says whether there is any. `bound` is the most tokens that the answer
    to a request may have, None where it doesn't bound it.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        bound: Callable[[Request], int | None],
        clock: Clock,
    ) -> None:
        # an answer of which nothing is known must not fill the whole minute
        unknown = min(UNKNOWN_COMPLETION, (tokens_per_minute or float("inf")) / 10)
        self._estimate = TokenEstimate(bound, unknown)
        self._tokens_per_minute = tokens_per_minute
        self._minute = None if tokens_per_minute is None else Minute(tokens_per_minute, clock)
        self._clock = clock
        self._given = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._all: dict[Key, Meter] = {}
        self._used: dict[str, list[tuple[str, Meter]]] = {}
        for unit in self._given:
            self._meter(Key(EVERYBODY, unit))
        self._look()

    @property
    def active(self) -> bool:
        return bool(self._used)

    def load(self, request: Request) -> Load | None:
        """What a request will take; None where tokens don't count. Raises EndpointError for one that will never fit into
        what the user allows: an endpoint says itself what is too large for it.
        """
        if not any(unit != "requests" for unit, _ in self._of(request.model)):
            return None
        load = self._estimate.of(request)
        most = self._tokens_per_minute
        if most is not None and load.least > most:
            raise EndpointError(
                Kind.BAD_REQUEST,
                f"the request is larger than the whole limit: about {load.plain + load.bound:.0f} tokens (prompt and "
                f"max_tokens), and tokens_per_minute is {most:g}; lower max_tokens, or raise [limits] tokens_per_minute",
            )
        return load

    def wait_s(self, request: Request, load: Load | None) -> float:
        """Seconds until a request may start; 0 or less when it may now."""
        wait_s = max((meter.wait_s() for _, meter in self._of(request.model)), default=0.0)
        if wait_s <= 0 and self._minute is not None and load is not None:
            return self._minute.wait_s(load.prompt + load.longest)
        return wait_s

    def take(self, request: Request, load: Load | None) -> Taken | None:
        """A request starts. What is returned is to be settled."""
        for unit, meter in self._of(request.model):
            meter.take(_share(unit, load))
        if load is None:
            return None
        entry = None if self._minute is None else self._minute.take(load.prompt + load.longest)
        return Taken(self._estimate.started(request), load, entry)

    def settle(self, request: Request, taken: Taken, usage: Usage | None, *, lost: bool) -> None:
        """A request has ended: what it really took. Without usage it took nothing, unless its answer was lost: that may
        have used what was estimated.
        """
        load = taken.load
        self._estimate.ended(request, taken.number, load, usage)
        if lost:
            return
        used = Load(0, 0)
        if usage is not None:
            # where the endpoint reports none, what was estimated of the prompt is the better guess
            used = Load(usage.prompt if usage.source == "reported" else load.prompt, usage.completion)
        for unit, meter in self._of(request.model):
            if unit != "requests":
                meter.settle(_share(unit, used) - _share(unit, load))
        if self._minute is not None and taken.entry is not None:
            self._minute.settle(taken.entry, used.tokens)

    def owe(self, request: Request, usage: Usage) -> None:
        """The tokens of an answer to what was sent before any limit was known."""
        for unit, meter in self._of(request.model):
            if unit != "requests":
                meter.settle(_share(unit, Load(usage.prompt, usage.completion)))

    def believe(self) -> None:
        """The endpoint has refused for its rate: what it states is believed again."""
        for meter in self._all.values():
            meter.believe()

    def learn(self, model: str, limits: list[StatedLimit], out: Out | None = None) -> News:
        """Keep the limits that the endpoint states with an answer of a model. Returns those that it states for the first
        time and that are less than what the user allows, in units a minute, and which it contradicts from now on. What is
        `out` since before the limits were known is charged to them.

        A limit is the model's (so are OpenAI's, Groq's and Azure's), unless it is said to be somebody else's.
        """
        news: dict[str, float] = {}
        dropped: list[str] = []
        out = out or Out(0, 0, self._clock.now())
        for stated in limits:
            whose = EVERYBODY if stated.scope and "model" not in stated.scope else model
            key = Key(whose, stated.unit, stated.scope, stated.window_s)
            if key not in self._all and len(self._all) >= _MOST_METERS:
                continue
            meter = self._meter(key)
            known, doubted = meter.learnt, meter.doubted
            meter.learn(stated, out.in_flight)
            if meter.doubted and not doubted and known is not None:
                dropped.append(stated.unit)
            if known is None and meter.learnt is not None and stated.unit == "requests":
                meter.charge(out.sent, out.since)
            least = min(news.get(stated.unit, float("inf")), self._given.get(stated.unit) or float("inf"))
            if meter.learnt is not None and (known is None or meter.learnt > _FAR * known) and meter.learnt < least:
                news[stated.unit] = meter.learnt
        self._look()
        return News(news, dropped)

    def allow_requests(self, per_minute: float) -> None:
        """Keep another limit of the user's from now on."""
        self._given["requests"] = per_minute
        self._meter(Key(EVERYBODY, "requests")).allow(per_minute)
        self._look()

    def _of(self, model: str) -> list[tuple[str, Meter]]:
        """The limits that a request to a model has to keep."""
        return self._used.get(EVERYBODY, []) + self._used.get(model, [])

    def _meter(self, key: Key) -> Meter:
        if key not in self._all:
            slack = _REQUEST_SLACK if key.unit == "requests" else _TOKEN_SLACK
            given = self._given.get(key.unit) if key == Key(EVERYBODY, key.unit) else None
            self._all[key] = Meter(given, slack, self._clock)
        return self._all[key]

    def _look(self) -> None:
        self._used = {}
        for key, meter in self._all.items():
            if meter.active:
                self._used.setdefault(key.model, []).append((key.unit, meter))


def _share(unit: str, load: Load | None) -> float:
    """What a load takes of a limit."""
    if unit == "requests":
        return 1.0
    if load is None:
        return 0.0
    return {"tokens": load.tokens, "input_tokens": load.prompt}.get(unit, load.completion)
