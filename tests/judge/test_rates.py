"""What tokens cost at a price: their parts, what is counted apart, and steps. Held against the price list's own arithmetic."""

import datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as LibraryUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from batchrun.judge.catalogue import Listed
from batchrun.judge.rates import Rate, billed, flat, own_rate
from batchrun.money import PICO, Cost
from batchrun.records import TokenDetails, Usage
from batchrun.sections import Price

NOW = 1_795_000_000.0


def usage(prompt: int, completion: int, total: int | None = None, **more: Any) -> Usage:
    return Usage(prompt, completion, prompt + completion if total is None else total, **more)


APART = {
    "nothing apart": (usage(10, 5), (10, 5)),
    "xAI: reasoning beside the completion": (usage(10120, 1499, 14428, reasoning=2809), (10120, 4308)),
    "Gemini's relays: a total alone tells": (usage(100, 10, 1000), (100, 900)),
    "a part of the completion": (usage(100, 900, 1000, reasoning=890), (100, 900)),
    "more than it could be a part of, and no total": (usage(100, 10, reasoning=890), (100, 900)),
    "tools' tokens went in": (usage(100, 10, 160, details=TokenDetails(tool=50)), (150, 10)),
    "tools' tokens are in the prompt already": (usage(150, 10, details=TokenDetails(tool=50)), (150, 10)),
    "a total that is too small": (usage(100, 10, 7), (100, 10)),
}


@pytest.mark.parametrize(("given_usage", "tokens"), APART.values(), ids=APART)
def test_what_is_counted_apart_is_billed(given_usage: Usage, tokens: tuple[int, int]) -> None:
    """By the arithmetic, whoever the provider is."""
    assert billed(given_usage) == tokens


OWN = Price(input=1, output=10, cached_input=0.1, cache_write=1.25, cache_write_1h=2)
PARTS = {
    "all of it fresh": (usage(100, 0), 100),
    "read from a cache": (usage(100, 0, cached=40), 60 + 4),
    "written to one": (usage(100, 0, details=TokenDetails(cache_write=40)), 60 + 50),
    "for an hour": (usage(100, 0, details=TokenDetails(cache_write=40, cache_write_1h=40)), 60 + 80),
    "some of it for an hour": (usage(100, 0, details=TokenDetails(cache_write=40, cache_write_1h=20)), 60 + 25 + 40),
    "read and written": (usage(100, 0, cached=20, details=TokenDetails(cache_write=40)), 40 + 2 + 50),
    "more than there is": (usage(100, 0, cached=90, details=TokenDetails(cache_write=90)), 9 + 12.5),
}


@pytest.mark.parametrize(("given_usage", "millionths"), PARTS.values(), ids=PARTS)
def test_caches_have_prices_of_their_own(given_usage: Usage, millionths: float) -> None:
    """Parts of a prompt, each at its price, and no more of them than the prompt has."""
    assert own_rate(OWN).cost(given_usage) == Cost(round(millionths * 10**6), 0)


@pytest.mark.parametrize("details", [TokenDetails(cache_write=40), TokenDetails(cache_write=40, cache_write_1h=40)])
def test_a_price_that_is_not_given_is_the_inputs(details: TokenDetails) -> None:
    """Unless the job says otherwise, what is read from a cache or written to one costs as much as the rest."""
    assert own_rate(Price(input=1, output=10)).cost(usage(100, 0, cached=10, details=details)) == Cost(10**8, 0)


def test_free_cached_input_is_free() -> None:
    """A price of 0 is a price, not a missing one."""
    assert own_rate(Price(input=1, output=1, cached_input=0)).cost(usage(10, 0, cached=10)) == Cost(0, 0)


def test_an_answer_without_a_price_has_no_cost() -> None:
    """A model that is priced for prompts alone (embeddings) says nothing of what an answer costs."""
    rate = Rate("x", flat(Decimal(5)), None)
    assert rate.cost(usage(10, 0)) == Cost(50, 0)
    assert rate.cost(usage(10, 1)) is None


LISTED = [
    Listed(provider, model, "x")
    for provider in get_snapshot().providers
    for model in provider.models[:: max(1, len(provider.models) // 6)]
]
TOKENS = st.integers(0, 600_000)


@given(st.sampled_from(LISTED), TOKENS, TOKENS, TOKENS, TOKENS, st.sampled_from([NOW, NOW + 43_200]))
def test_the_price_lists_own_arithmetic(
    listed: Listed, fresh: int, cached: int, written: int, completion: int, at_s: float
) -> None:
    """For any model of the list, any tokens and any time of day the cost is what the library works out."""
    rate = listed.rate(None, at_s)
    prompt = fresh + cached + written
    known = None if rate is None else rate.cost(
        usage(prompt, completion, cached=cached, details=TokenDetails(cache_write=written))
    )  # fmt: skip
    if known is None:
        return
    price = listed.info.calc_price(
        LibraryUsage(
            input_tokens=prompt, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=completion,
            input_text_tokens=prompt, output_text_tokens=completion,
        ),
        listed.provider,
        genai_request_timestamp=datetime.datetime.fromtimestamp(at_s, datetime.UTC),
    )  # fmt: skip
    assert abs(known.total - price.total_price * PICO) <= 1
