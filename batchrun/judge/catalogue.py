"""The price list of genai-prices: whose endpoint a URL is, and which price a model has there. The only owner of that
library; it is loaded when the first price is looked for.

A name is looked up as it is, then without what relays put round it. Where the library has no price for the tier that an
answer was served at it would give that of the standard tier; here there is none then.
"""

import datetime
import functools
import re
from decimal import Decimal
from typing import Any, NamedTuple

from batchrun.judge.rates import Rate, Steps, flat
from batchrun.money import PICO, a_token

STANDARD_TIERS = frozenset({"", "default", "standard", "auto", "on_demand", "standard_only"})
"""Names of the tier that a list price is for: OpenAI, Anthropic, Google, Groq."""
_FREE, _OPENROUTER = ":free", "openrouter"
_DATE = re.compile(r"[-@]20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")
_PRICES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "output_reasoning_mtok": "reasoning",
}


class Listed(NamedTuple):
    """A model of the price list. `varies`: with the time of day or from some day on."""

    provider: Any
    info: Any
    source: str
    is_free: bool = False

    @property
    def varies(self) -> bool:
        info = self.info
        return info is not None and (isinstance(info.prices, list) or bool(info.price_variants))

    def rate(self, tier: str | None, at_s: float) -> Rate | None:
        """The price at a tier and a moment (seconds since the epoch), None where the list has none for them."""
        if self.is_free:
            return Rate(self.source, flat(Decimal(0)), flat(Decimal(0)))
        moment = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
        standard = _amounts(self.info.get_prices(moment))
        context = _context(tier)
        if not context:
            return _rate(standard, self.source)
        if not any(self.info is one for one in self.provider.models):
            return None  # the model is another provider's, and so are the prices of its tiers
        priced = set()
        for variant in self.info.price_variants or ():
            fits = all(context.get(key) == value for key, value in variant.when.items())
            if fits and (variant.constraint is None or variant.constraint.active(moment)):
                priced |= set(_amounts(variant.prices))
        if not set(standard) & {"input_mtok", "output_mtok"} <= priced:
            return None
        served = _amounts(self.info.get_prices(moment, context))
        # what the tier doesn't name has the standard price, which may be wrong: it is not taken
        return _rate({key: value for key, value in served.items() if key in priced}, f"{self.source} ({tier})")


def endpoint_of(url: str) -> str | None:
    """The provider whose endpoint a URL is, None where it is none that the list knows."""
    try:
        return str(_snapshot().find_provider(None, None, url).id)
    except LookupError:
        return None


@functools.lru_cache(4096)
def listed(model: str, provider: str | None) -> Listed | None:
    """A model by its name, at a provider or, without one, at whoever made it."""
    name = model.strip().removeprefix("models/")
    prefix, _, rest = name.partition("/")
    if rest and (named := _provider_named(prefix.lower())) is not None and provider in (None, named):
        return _found(rest, named) or (_found(name, provider) if provider is not None else None)
    return _found(name, provider)


def _found(name: str, provider: str | None) -> Listed | None:
    source = f"genai-prices {_version()}"
    if name.lower().endswith(_FREE):  # free of charge where that name is from; elsewhere nobody knows
        return Listed(None, None, f"{source}: {provider}/{name}", is_free=True) if provider == _OPENROUTER else None
    for spelling in dict.fromkeys((name, _DATE.sub("", name))):
        try:
            found, info = _snapshot().find_provider_model(spelling, None, provider, None)
        except LookupError:
            continue
        return Listed(found, info, f"{source}: {found.id}/{info.id}")
    return None


def _provider_named(prefix: str) -> str | None:
    return prefix if any(one.id == prefix for one in _snapshot().providers) else _ALIASES.get(prefix)


_ALIASES = {"gemini": "google", "vertex_ai": "google", "xai": "x-ai", "bedrock": "aws", "together_ai": "together"}
"""LiteLLM's names of providers that the list calls otherwise."""


def _context(tier: str | None) -> dict[str, str]:
    folded = (tier or "").lower()
    if folded in STANDARD_TIERS:
        return {}
    return {"processing": "batch"} if folded == "batch" else {"service_tier": folded}


def _amounts(prices: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None and not key.startswith("_")}


def _rate(amounts: dict[str, Any], source: str) -> Rate | None:
    """A price of the list as a rate; None where it has none for tokens, or one in another unit alone."""
    if "input_mtok" not in amounts:
        return None
    steps = {_PRICES[key]: _steps(value) for key, value in amounts.items() if key in _PRICES}
    request = amounts.get("requests_kcount")
    return Rate(
        source,
        steps.pop("input"),
        steps.pop("output", None),
        request=request * PICO / 1000 if isinstance(request, Decimal) else Decimal(0),
        **steps,
    )


def _steps(price: Any) -> Steps:
    if isinstance(price, Decimal):
        return flat(a_token(price))
    return ((0, a_token(price.base)), *((tier.start, a_token(tier.price)) for tier in price.tiers))


def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot  # late: the list is large, and many commands need no price

    return get_snapshot()


def _version() -> str:
    import genai_prices  # late, as above

    return genai_prices.__version__
