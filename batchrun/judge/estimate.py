"""What requests will cost before they are asked: token estimates, and the most that they can come to."""

from math import ceil

import msgspec

from batchrun.judge.prices import Prices
from batchrun.records import EMBEDDINGS, RESPONSES, Request, Usage
from batchrun.tokens import prompt_tokens

_CHEAPER = frozenset({"flex", "batch"})


class _Ceiling(msgspec.Struct):
    """The fields of a body that bound its answer."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    service_tier: str | None = None


def most_completion_tokens(request: Request) -> int | None:
    """The most tokens that a request's answer may have, or None where the request doesn't bound it."""
    if request.path == EMBEDDINGS:
        return 0
    try:
        found = msgspec.json.decode(request.body, type=_Ceiling)
    except msgspec.ValidationError:
        return None
    if request.path == RESPONSES:
        return found.max_output_tokens
    most = found.max_completion_tokens or found.max_tokens
    return None if most is None else most * max(found.n or 1, found.best_of or 1)


class Ceiling:
    """The most that one attempt of a request can cost at an endpoint, in pico-dollars: every byte a token, the answer as
    long as it may be, each token at the dearest price that the model has. None where it has no known price or the request
    doesn't bound its answer.
    """

    def __init__(self, prices: Prices, endpoint: str) -> None:
        self._prices = prices
        self._endpoint = endpoint
        self._rates: dict[tuple[str, str | None], tuple[int, int, int] | None] = {}

    def __call__(self, request: Request) -> int | None:
        most = most_completion_tokens(request)
        if most is None:
            return None
        tier = _tier(request.body)
        key = (request.model, tier)
        if key not in self._rates:
            self._rates[key] = self._dearest(request.model, tier)
        rates = self._rates[key]
        return None if rates is None else rates[0] + len(request.body) * rates[1] + most * rates[2]

    def _dearest(self, model: str, tier: str | None) -> tuple[int, int, int] | None:
        """Whole pico-dollars a request, a token of its prompt and one of its answer, rounded up. What asks for a cheaper
        tier may be served at the standard one.
        """
        rates = [self._prices.rate(self._endpoint, model, one) for one in dict.fromkeys((None, tier))]
        if rates[0] is None or (rates[-1] is None and tier not in _CHEAPER):
            return None
        found = [rate for rate in rates if rate is not None]
        prices = (
            max(rate.request for rate in found),
            max(rate.dearest_input for rate in found),
            max(rate.dearest_output for rate in found),
        )
        return ceil(prices[0]), ceil(prices[1]), ceil(prices[2])


def _tier(body: bytes) -> str | None:
    """The tier that a request asks for; most bodies don't name one, and are not read for it."""
    if b'"service_tier":' not in body:
        return None
    try:
        return msgspec.json.decode(body, type=_Ceiling).service_tier
    except msgspec.ValidationError:
        return None


class Estimate:
    """Sums over requests to one endpoint, with the tokens of a prompt as they are estimated (batchrun.tokens).

    `unpriced` of the `requests` have no known price, and money leaves them out. It is in pico-dollars, None where nothing is
    known; so are sums of answers of which one has no bound.
    """

    def __init__(self, prices: Prices, endpoint: str) -> None:
        self._prices = prices
        self._endpoint = endpoint
        self._unbounded = self._unbounded_cost = False
        self._prompt = self._most = self._completion = 0
        self.requests = self.prompt_tokens = self.unpriced = 0
        self.price_source: str | None = None

    def add(self, request: Request) -> None:
        self.requests += 1
        prompt = prompt_tokens(request.body)
        self.prompt_tokens += prompt
        most = most_completion_tokens(request)
        if most is None:
            self._unbounded = True
        else:
            self._completion += most
        tier = _tier(request.body)
        rate = self._prices.rate(self._endpoint, request.model, tier)
        cost = None if rate is None else rate.cost(Usage(prompt, most or 0, 0, service_tier=tier))
        if rate is None or cost is None:
            self.unpriced += 1
            return
        self.price_source = rate.source
        self._prompt += cost.input
        self._most += cost.total
        self._unbounded_cost = self._unbounded_cost or most is None

    def take(self, other: "Estimate") -> None:
        """Add all that another has summed."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.unpriced += other.unpriced
        self._prompt += other._prompt
        self._most += other._most
        self._completion += other._completion
        self._unbounded = self._unbounded or other._unbounded
        self._unbounded_cost = self._unbounded_cost or other._unbounded_cost
        self.price_source = other.price_source or self.price_source

    @property
    def most_completion_tokens(self) -> int | None:
        return None if self._unbounded else self._completion

    @property
    def prompt_cost(self) -> int | None:
        """The likely cost of the prompts alone."""
        return None if self.unpriced and self.unpriced == self.requests else self._prompt

    @property
    def most_cost(self) -> int | None:
        """The likely cost of the prompts, with every answer as long as it may be."""
        unknown = self._unbounded_cost or (self.unpriced and self.unpriced == self.requests)
        return None if unknown else self._most
