"""What an answer cost, exact to the pico-dollar (contract.md §5 [prices], §6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.job import Price
from batchrun.judge.prices import Cost, Prices, usd
from batchrun.records import Result

OPENAI = "https://api.openai.com/v1/chat/completions"
OWN = {"mine": Price(input=0.25, output=1.25, cached_input=0.025), "plain": Price(input=0.1, output=0.3)}


def result(model: str = "mine", prompt: int | None = 0, cached: int | None = None, output: int | None = 0) -> Result:
    return Result(
        0, "0", "default", 0, "h", "ok", model=model, asked_model=model,
        prompt_tokens=prompt, cached_tokens=cached, completion_tokens=output,
    )  # fmt: skip


COSTS: list[tuple[str, int, int | None, int, Cost]] = [
    ("mine", 1, None, 0, Cost(250_000, 0)),
    ("mine", 0, None, 1, Cost(0, 1_250_000)),
    ("mine", 1_000_000, None, 1_000_000, Cost(250_000_000_000, 1_250_000_000_000)),
    ("mine", 10, 10, 0, Cost(250_000, 0)),
    ("mine", 10, 4, 2, Cost(6 * 250_000 + 4 * 25_000, 2_500_000)),
    ("mine", 10, 99, 0, Cost(250_000, 0)),
    ("plain", 3, 2, 3, Cost(300_000, 900_000)),
    ("mine", 0, 0, 0, Cost(0, 0)),
]


@pytest.mark.parametrize(("model", "prompt", "cached", "output", "cost"), COSTS)
def test_own_price(model: str, prompt: int, cached: int | None, output: int, cost: Cost) -> None:
    """A job's price is reckoned exactly; cached tokens are part of the prompt, at their price or the input's."""
    prices = Prices(OWN, OPENAI)
    asked = result(model, prompt, cached, output)
    assert prices.cost(asked) == cost
    assert prices.cost_usd(asked) == usd(cost.total)
    assert prices.source(asked) == "job"


def test_library_price() -> None:
    """A known model is priced by the library's data, named with its version."""
    prices = Prices({}, OPENAI)
    asked = result("gpt-4o-mini", 1_000_000, 0, 1_000_000)
    assert prices.cost(asked) == Cost(150_000_000_000, 600_000_000_000)
    assert (prices.source(asked) or "").startswith("genai-prices ")
    assert "openai/gpt-4o-mini" in (prices.source(asked) or "")


def test_library_cached_price() -> None:
    """Cached tokens of a known model have the library's price for them."""
    prices = Prices({}, OPENAI)
    assert prices.cost(result("gpt-4o-mini", 1_000_000, 1_000_000, 0)) == Cost(75_000_000_000, 0)


def test_the_model_of_the_page_is_known() -> None:
    """A relay's claude-3-5-sonnet-20241022 has a price, whoever serves it."""
    prices = Prices({}, "https://api.quzhi.life/v1/chat/completions")
    cost = prices.cost(result("claude-3-5-sonnet-20241022", 1_000_000, 0, 1_000_000))
    assert cost == Cost(3_000_000_000_000, 15_000_000_000_000)


def test_job_price_over_library() -> None:
    """A job's price for a known model overrides the library's."""
    prices = Prices({"gpt-4o-mini": Price(input=1, output=2)}, OPENAI)
    asked = result("gpt-4o-mini", 1, 0, 1)
    assert prices.cost(asked) == Cost(1_000_000, 2_000_000)
    assert prices.source(asked) == "job"


@pytest.mark.parametrize("own", [{}, OWN])
def test_unknown_model_has_no_cost(own: dict[str, Price]) -> None:
    """Where no price is known there is no cost, not a cost of nothing."""
    prices = Prices(own, "http://127.0.0.1:1/v1/chat/completions")
    asked = result("no-such-model-xyz", 5, 0, 5)
    assert (prices.cost(asked), prices.cost_usd(asked), prices.source(asked)) == (None, None, None)
    assert prices.rate("no-such-model-xyz") is None


@pytest.mark.parametrize(("prompt", "output"), [(None, 1), (1, None), (None, None)])
def test_nothing_known_to_be_billed(prompt: int | None, output: int | None) -> None:
    """A result without token counts has no cost."""
    assert Prices(OWN, OPENAI).cost(result("mine", prompt, None, output)) is None


def test_asked_model_before_the_answered_one() -> None:
    """The model that was asked for tells the price; the one that answered only where that has none."""
    prices = Prices(OWN, OPENAI)
    base = {"prompt_tokens": 1, "completion_tokens": 0}
    asked = Result(0, "0", "default", 0, "h", "ok", asked_model="plain", model="mine", **base)
    unknown = Result(0, "0", "default", 0, "h", "ok", asked_model="no-such-model-xyz", model="mine", **base)
    assert prices.cost(asked) == Cost(100_000, 0)
    assert prices.cost(unknown) == Cost(250_000, 0)


def test_free_cached_input_is_free() -> None:
    """A cached price of 0 is a price, not a missing one."""
    prices = Prices({"m": Price(input=1, output=1, cached_input=0)}, OPENAI)
    assert prices.cost(result("m", 10, 10, 0)) == Cost(0, 0)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7)), max_size=8))
def test_sums_are_exact(tokens: list[tuple[int, int, int]]) -> None:
    """The cost of many is the cost of their sum: nothing is lost to rounding on the way."""
    prices = Prices(OWN, OPENAI)
    costs = [prices.cost(result("mine", prompt + cached, cached, output)) for prompt, cached, output in tokens]
    prompt, cached, output = (sum(column) for column in zip(*tokens, strict=True)) if tokens else (0, 0, 0)
    assert sum(cost.total for cost in costs if cost) == prompt * 250_000 + cached * 25_000 + output * 1_250_000


def test_usd() -> None:
    """Pico-dollars become the nearest double of dollars."""
    assert (usd(0), usd(1), usd(300_000_000_000), usd(10**15)) == (0.0, 1e-12, 0.3, 1000.0)
