"""One price a request, by one rule (contract.md §6 "priced once", §5 [prices])."""

import pickle
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, Kind
from batchrun.judge.prices import Bill, Billed, Prices
from batchrun.money import Cost
from batchrun.records import Answer, Request, Usage
from batchrun.sections import Price

NOW = 1_795_000_000.0
"""A day in November 2026, behind every date from which a tier has a price."""
URLS = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "azure": "https://mine.openai.azure.com/openai/deployments/d/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "relay": "https://api.quzhi.life/v1/chat/completions",
    "here": "http://127.0.0.1:8000/v1/chat/completions",
    "embedded": "embedded:",
}
OWN = {"mine": Price(input=0.25, output=1.25, cached_input=0.025), "plain": Price(input=0.1, output=0.3)}
MILLION = 10**6
DOLLAR = 10**12


def bill(
    endpoint: str, asked: str | None, answered: str | None = None, own: dict[str, Price] | None = None, **usage: Any
) -> Bill:
    used = Usage(**{"prompt": MILLION, "completion": MILLION, "total": 2 * MILLION, **usage})
    return Prices(own or {}, URLS).bill(endpoint, asked, answered, used, NOW)


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
    """A job's price is exact; cached tokens are part of the prompt, at their price or the input's."""
    usage = {"prompt": prompt, "cached": cached, "completion": output, "total": prompt + output}
    assert bill("openai", model, None, OWN, **usage) == (cost, "job")


KNOWN = "genai-prices"
RULE: dict[str, tuple[str, str | None, str | None, dict[str, Price], int | None, str]] = {
    "own price of the asked name, whoever answers": ("openai", "mine", "gpt-4o", OWN, 1.5 * DOLLAR, "job"),
    "own price over the list": ("openai", "gpt-4o", "gpt-4o", {"gpt-4o": Price(1, 2)}, 3 * DOLLAR, "job"),
    "own price on loopback": ("here", "mine", "gpt-4o", OWN, 1.5 * DOLLAR, "job"),
    "the asked name where the endpoint is known": ("openai", "gpt-4o", "plain", OWN, 12.5 * DOLLAR, "openai/gpt-4o"),
    "an answer that nobody knows": ("openai", "gpt-4o-mini", "deployment-eu-7", {}, 0.75 * DOLLAR, "gpt-4o-mini"),
    "own price of the answering name": ("relay", "alias", "mine", OWN, 1.5 * DOLLAR, "job"),
    "the answering name at a known endpoint": ("azure", "my-deployment", "gpt-4o", {}, 12.5 * DOLLAR, "azure/gpt-4o"),
    "the answering name at a relay": (
        "relay", "my-claude", "claude-3-5-sonnet-20241022", {}, 18 * DOLLAR, "anthropic/",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("endpoint", "asked", "answered", "own", "cost", "source"), RULE.values(), ids=RULE)
def test_the_rule(
    endpoint: str, asked: str | None, answered: str | None, own: dict[str, Price], cost: int, source: str
) -> None:
    """The job's own price for the asked model; the asked one at a known endpoint; the answered one."""
    found = bill(endpoint, asked, answered, own)
    assert found.cost is not None
    assert found.cost.total == cost
    assert source in (found.source or "")


UNKNOWN = {
    "nobody knows either name": ("openai", "no-such-model-xyz", "nor-this-xyz"),
    "a relay's answer says no name": ("relay", "gpt-4o", None),
    "a relay's answer says one that nobody prices": ("relay", "gpt-4o", "deployment-eu-7"),
    "a free name at a relay": ("relay", "x", "deepseek/deepseek-r1:free"),
}


@pytest.mark.parametrize(("endpoint", "asked", "answered"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_has_no_known_price_has_no_cost(endpoint: str, asked: str, answered: str | None) -> None:
    """Not a cost of nothing, and not another model's price."""
    assert bill(endpoint, asked, answered) == (None, None)


@pytest.mark.parametrize("endpoint", ["here", "embedded", "192.168.1.5:8000"])
@pytest.mark.parametrize(("asked", "answered"), [("gpt-oss-120b", None), ("mine", "gpt-4o")])
def test_a_local_server_is_never_billed_at_a_clouds_price(endpoint: str, asked: str, answered: str | None) -> None:
    """Whatever name it answers under; the source says why there is no price."""
    cost, source = bill(endpoint, asked, answered)
    assert cost is None
    assert source is not None
    assert "private network" in source
    assert Prices({}, URLS).rate(endpoint, asked) is None


NAMES = {
    "models/gemini-2.0-flash": ("google", "google/gemini-2.0-flash"),
    "azure/gpt-4o": ("relay", "azure/gpt-4o"),
    "openrouter/anthropic/claude-sonnet-4.5": ("relay", "openrouter/anthropic/claude-sonnet-4.5"),
    "openai/gpt-4o": ("relay", "openai/gpt-4o"),
    "xai/grok-4-0709": ("relay", "x-ai/grok-4-0709"),
    "anthropic/claude-sonnet-4.5": ("openrouter", "openrouter/anthropic/claude-sonnet-4.5"),
    "gpt-4o-2024-05-13": ("openai", "openai/gpt-4o-2024-05-13"),
    "gpt-4o-2031-01-01": ("openai", "openai/gpt-4o"),
    "claude-sonnet-4@20250514": ("relay", "anthropic/claude-sonnet-4"),
    "GPT-4o": ("openai", "openai/gpt-4o"),
}


@pytest.mark.parametrize(("name", "endpoint", "source"), [(name, *rest) for name, rest in NAMES.items()])
def test_names_as_relays_write_them(name: str, endpoint: str, source: str) -> None:
    """Prefixes of relays and clouds, dates and capitals hide no model; a snapshot with a price of its own has that."""
    cost, found = bill(endpoint, name, name)
    assert cost is not None
    assert source in (found or "")


def test_a_free_model_is_free_where_that_name_is_from() -> None:
    """`:free` is OpenRouter's: known to cost nothing there, also of a model that the list doesn't have."""
    for name in ("deepseek/deepseek-r1:free", "some/new-model:free"):
        cost, source = bill("openrouter", name, name)
        assert cost == Cost(0, 0)
        assert name in (source or "")


TIERS: dict[str, tuple[str, str, str, Decimal | None]] = {
    "standard": ("openai", "gpt-5", "default", Decimal("11.25")),
    "groq's standard": ("openai", "gpt-5", "on_demand", Decimal("11.25")),
    "flex at half": ("openai", "gpt-5", "flex", Decimal("5.625")),
    "priority": ("openai", "gpt-5", "priority", Decimal("22.5")),
    "batch": ("openai", "gpt-5", "batch", Decimal("5.625")),
    "no price of that tier": ("openai", "gpt-4o", "flex", None),
    "a tier of no provider": ("openai", "gpt-5", "scale", None),
    "another provider's model": ("azure", "gpt-5", "flex", None),
}


@pytest.mark.parametrize(("endpoint", "model", "tier", "dollars"), TIERS.values(), ids=TIERS)
def test_the_tier_that_was_served(endpoint: str, model: str, tier: str, dollars: Decimal | None) -> None:
    """An answer is priced at the tier that it names; where the list has no price for that, there is none, and why is said."""
    cost, source = bill(endpoint, model, model, service_tier=tier)
    assert (None if cost is None else Decimal(cost.total) / DOLLAR) == dollars
    if dollars is None:
        assert source is not None
        assert f"no price for tier {tier}" in source


def test_own_prices_of_tiers() -> None:
    """A factor of the job's own; a tier that it doesn't name has the price that the job states, and the source says so."""
    own = {"m": Price(input=1, output=2, tiers={"flex": 0.5})}
    assert bill("here", "m", "m", own, service_tier="flex") == (Cost(DOLLAR // 2, DOLLAR), "job (tier flex)")
    assert bill("here", "m", "m", own, service_tier="vip") == (Cost(DOLLAR, 2 * DOLLAR), "job (tier vip as stated)")
    assert bill("here", "m", "m", own, service_tier="default").source == "job"


def test_prices_can_be_pickled() -> None:
    """A worker elsewhere prices as this one does, also after prices were looked up."""
    prices = Prices(OWN, URLS)
    usage = Usage(MILLION, 0, MILLION)
    for endpoint, model in (("openai", "gpt-4o"), ("here", "mine")):
        expected = prices.bill(endpoint, model, model, usage, NOW)
        assert pickle.loads(pickle.dumps(prices)).bill(endpoint, model, model, usage, NOW) == expected


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7)), max_size=8))
def test_sums_are_exact(tokens: list[tuple[int, int, int]]) -> None:
    """The cost of many is the cost of their sum: nothing is lost to rounding on the way."""
    prices = Prices(OWN, URLS)
    total = 0
    for fresh, cached, output in tokens:
        usage = Usage(fresh + cached, output, fresh + cached + output, cached)
        cost = prices.bill("openai", "mine", None, usage, NOW).cost
        assert cost is not None
        total += cost.total
    fresh, cached, output = (sum(column) for column in zip(*tokens, strict=True)) if tokens else (0, 0, 0)
    assert total == fresh * 250_000 + cached * 25_000 + output * 1_250_000


REQUEST = Request(0, "0", "default", 0, b"{}", "h", "mine")


def attempted(outcome: Answer | EndpointError) -> Any:
    """What comes out of a client whose attempts are billed."""

    async def client(_request: Request) -> Answer:
        if isinstance(outcome, EndpointError):
            raise outcome
        return outcome

    async def attempt() -> Any:
        try:
            return await Billed(client, Prices(OWN, URLS), "here", SystemClock()).complete(REQUEST)
        except EndpointError as error:
            return error

    return anyio.run(attempt)


def test_an_answer_comes_with_its_cost() -> None:
    """Decided once, when it comes."""
    answer = attempted(Answer("x", Usage(4, 2, 6), model="house"))
    assert (answer.cost, answer.price_source) == (Cost(1_000_000, 2_500_000), "job")


def test_a_fault_with_usage_was_billed() -> None:
    """Stated usage is priced: the attempt is known to be billed, and no longer one of which nobody knows."""
    error = attempted(EndpointError(Kind.DISCONNECTED, "broken", unconfirmed=True, usage=Usage(4, 2, 6)))
    assert (error.cost, error.unconfirmed) == (Cost(1_000_000, 2_500_000), False)


@pytest.mark.parametrize("unconfirmed", [True, False])
def test_a_fault_with_usage_and_no_price_stays_what_it_was(unconfirmed: bool) -> None:
    """Its cost is unknown; whether more than was stated may have been billed is what the wire says. So it is for a fault
    without usage.
    """
    error = EndpointError(Kind.DISCONNECTED, "broken", unconfirmed=unconfirmed, usage=Usage(4, 2, 6))
    unpriced = Request(0, "0", "default", 0, b"{}", "h", "no-such-model-xyz")

    async def client(_request: Request) -> Answer:
        raise error

    async def attempt() -> None:
        with pytest.raises(EndpointError):
            await Billed(client, Prices({}, URLS), "here", SystemClock()).complete(unpriced)

    anyio.run(attempt)
    assert (error.cost, error.unconfirmed) == (None, unconfirmed)
    assert attempted(EndpointError(Kind.SERVER, "HTTP 500")).unconfirmed is False
