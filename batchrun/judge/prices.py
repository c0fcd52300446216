"""What an answer cost: the job's own prices first, then the well-kept data of genai-prices. Exact, in pico-dollars.

Amounts are integers of 10⁻¹² USD, so that sums are exact and any order of adding gives the same bill.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from batchrun.job import Price
from batchrun.records import Result

PICO = 10**12


class Cost(NamedTuple):
    """Integers of 10⁻¹² USD."""

    input: int
    output: int

    @property
    def total(self) -> int:
        return self.input + self.output


class Rate(NamedTuple):
    """Pico-dollars per token (Decimal), and where they are from."""

    input: Decimal
    cached: Decimal
    output: Decimal
    source: str


def usd(pico: int) -> float:
    """Pico-dollars as the nearest double of dollars."""
    return float(Decimal(pico) / PICO)


class Prices:
    """Prices results. `endpoint_url` helps to tell whose model a name is."""

    def __init__(self, own: dict[str, Price], endpoint_url: str) -> None:
        self._own = own
        self._url = endpoint_url
        self._known: dict[str, Rate | _Library | None] = {}

    def cost(self, result: Result) -> Cost | None:
        """The cost of a result's tokens, or None where no price is known or nothing is known to be billed."""
        if result.prompt_tokens is None or result.completion_tokens is None:
            return None
        priced = self._find(result)
        if priced is None:
            return None
        return priced_cost(priced, result.prompt_tokens, result.cached_tokens or 0, result.completion_tokens)

    def pico(self, result: Result) -> int | None:
        """The same as one amount of pico-dollars."""
        cost = self.cost(result)
        return None if cost is None else cost.total

    def cost_usd(self, result: Result) -> float | None:
        """The same in USD."""
        cost = self.pico(result)
        return None if cost is None else usd(cost)

    def source(self, result: Result) -> str | None:
        """Where the price of a result's model is from, or None where it has none."""
        priced = self._find(result)
        return None if priced is None else priced.source

    def rate(self, model: str) -> Rate | None:
        """The flat rate of a model for estimates; None where there is none or it is not flat."""
        priced = self._lookup(model)
        return priced if isinstance(priced, Rate) else None

    def _find(self, result: Result) -> "Rate | _Library | None":
        for model in (result.asked_model, result.model):
            if model is not None and (found := self._lookup(model)) is not None:
                return found
        return None

    def _lookup(self, model: str) -> "Rate | _Library | None":
        if model not in self._known:
            own = self._own.get(model)
            self._known[model] = _own_rate(own) if own is not None else _library(model, self._url)
        return self._known[model]


class _Library:
    """A model of genai-prices whose price is not flat (tiers, times of day): the library reckons each answer."""

    def __init__(self, model: object, provider: object, source: str) -> None:
        self._model = model
        self._provider = provider
        self.source = source

    def reckon(self, prompt: int, cached: int, completion: int) -> Cost:
        from genai_prices import Usage

        usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion)
        price = self._model.calc_price(usage, self._provider)  # type: ignore[attr-defined]
        return Cost(_pico(price.input_price * PICO), _pico(price.output_price * PICO))


def priced_cost(priced: Rate | _Library, prompt: int, cached: int, completion: int) -> Cost:
    """The cost of token counts. `cached` is part of `prompt`."""
    if isinstance(priced, _Library):
        return priced.reckon(prompt, min(cached, prompt), completion)
    cached = min(cached, prompt)
    return Cost(
        _pico((prompt - cached) * priced.input + cached * priced.cached),
        _pico(completion * priced.output),
    )


def _own_rate(price: Price) -> Rate:
    cached = price.input if price.cached_input is None else price.cached_input
    # USD per million tokens = 10⁶ pico-dollars per token
    input_rate, cached_rate, output_rate = (
        Decimal(repr(value)) * 10**6 for value in (price.input, cached, price.output)
    )
    return Rate(input_rate, cached_rate, output_rate, "job")


def _library(model: str, url: str) -> Rate | _Library | None:
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for api_url in (url, None):
        try:
            provider, info = snapshot.find_provider_model(model, None, None, api_url)
            price = snapshot.calc(genai_prices.Usage(input_tokens=1), model, None, api_url, None).model_price
        except (LookupError, ValueError):
            continue
        source = f"genai-prices {genai_prices.__version__}: {provider.id}/{info.id}"
        cached = price.input_mtok if price.cache_read_mtok is None else price.cache_read_mtok
        rates = (price.input_mtok, cached, price.output_mtok)
        if not all(isinstance(rate, Decimal) for rate in rates):
            return _Library(info, provider, source)
        input_rate, cached_rate, output_rate = (rate * 10**6 for rate in rates if isinstance(rate, Decimal))
        return Rate(input_rate, cached_rate, output_rate, source)
    return None


def _pico(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_EVEN))
