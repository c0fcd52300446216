"""What requests will cost before they are asked: token estimates, and the most that they can come to."""

from math import ceil

import msgspec

from batchrun.judge.prices import Prices, priced_cost
from batchrun.records import EMBEDDINGS, RESPONSES, Request
from batchrun.tokens import prompt_tokens


class _Ceiling(msgspec.Struct):
    """The fields of a body that bound its answer."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None


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
    """The most that one attempt of a request can cost, in pico-dollars: every byte a token, the answer as long as it may
    be. None where the model has no flat price or the request doesn't bound its answer.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._rates: dict[str, tuple[int, int] | None] = {}

    def __call__(self, request: Request) -> int | None:
        model = request.model
        if model not in self._rates:
            rate = self._prices.rate(model)
            # whole pico-dollars a token, rounded up: this is asked for every attempt
            self._rates[model] = None if rate is None else (ceil(max(rate.input, rate.cached)), ceil(rate.output))
        rates = self._rates[model]
        if rates is None:
            return None
        most = most_completion_tokens(request)
        return None if most is None else len(request.body) * rates[0] + most * rates[1]


class Estimate:
    """Sums over requests, with the tokens of a prompt as they are reckoned (batchrun.tokens).

    Money is in pico-dollars, None where a price or a bound is missing.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._unpriced = self._unbounded = False
        self._prompt = self._most = self._completion = 0
        self.requests = self.prompt_tokens = 0
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
        rate = self._prices.rate(request.model)
        if rate is None:
            self._unpriced = True
            return
        self.price_source = rate.source
        self._prompt += priced_cost(rate, prompt, 0, 0).input
        self._most += priced_cost(rate, prompt, 0, most or 0).total

    @property
    def most_completion_tokens(self) -> int | None:
        return None if self._unbounded else self._completion

    @property
    def prompt_cost(self) -> int | None:
        """The likely cost of the prompts alone."""
        return None if self._unpriced or not self.requests else self._prompt

    @property
    def most_cost(self) -> int | None:
        """The likely cost of the prompts, with every answer as long as it may be."""
        return None if self._unpriced or self._unbounded or not self.requests else self._most
