"""What answers say of their tokens, in every provider's spelling (endpoint.md §7)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records import TokenDetails, Usage
from batchrun.wire.decode.usage import read_usage, usage_in

OPENAI = {"prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 10_100}
CACHES: dict[str, tuple[dict[str, Any], Usage]] = {
    "OpenAI": ({**OPENAI, "prompt_tokens_details": {"cached_tokens": 9000}}, Usage(10_000, 100, 10_100, 9000)),
    "DeepSeek": (
        {**OPENAI, "prompt_cache_hit_tokens": 9000, "prompt_cache_miss_tokens": 1000},
        Usage(10_000, 100, 10_100, 9000),
    ),
    "Moonshot": ({**OPENAI, "cached_tokens": 9000}, Usage(10_000, 100, 10_100, 9000)),
    "LiteLLM for Claude": (
        {**OPENAI, "cache_read_input_tokens": 9000, "cache_creation_input_tokens": 0},
        Usage(10_000, 100, 10_100, 9000),
    ),
    "two spellings, one left at 0": (
        {**OPENAI, "prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 9000},
        Usage(10_000, 100, 10_100, 9000),
    ),
    "OpenRouter's writes": (
        {**OPENAI, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 9000}},
        Usage(10_000, 100, 10_100, 0, details=TokenDetails(cache_write=9000)),
    ),
    "Anthropic's own": (
        {
            "input_tokens": 100,
            "output_tokens": 7,
            "cache_read_input_tokens": 900,
            "cache_creation_input_tokens": 60,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40},
            "service_tier": "standard",
        },
        Usage(1060, 7, 1067, 900, details=TokenDetails(cache_write=60, cache_write_1h=40), service_tier="standard"),
    ),
    "Anthropic's, little of it": (
        {"input_tokens": 1000, "output_tokens": 7, "cache_read_input_tokens": 10},
        Usage(1010, 7, 1017, 10),
    ),
    "the parts of a write alone": (
        {**OPENAI, "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}},
        Usage(10_000, 100, 10_100, details=TokenDetails(cache_write=60, cache_write_1h=40)),
    ),
    "new-api's parts": (
        {**OPENAI, "claude_cache_creation_5_m_tokens": 20, "claude_cache_creation_1_h_tokens": 0},
        Usage(10_000, 100, 10_100, details=TokenDetails(cache_write=20)),
    ),
    "OpenAI's responses": (
        {
            "input_tokens": 1000,
            "output_tokens": 7,
            "total_tokens": 1007,
            "input_tokens_details": {"cached_tokens": 900},
        },
        Usage(1000, 7, 1007, 900),
    ),
    "a relay that leaves caches out of the prompt": (
        {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107, "cache_read_input_tokens": 900},
        Usage(1000, 7, 107, 900),
    ),
    "a relay whose total alone has them": (
        {"prompt_tokens": 1000, "completion_tokens": 7, "total_tokens": 1907, "cache_read_input_tokens": 900},
        Usage(1900, 7, 1907, 900),
    ),
    "Google's own": (
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 50,
            "toolUsePromptTokenCount": 30,
            "cachedContentTokenCount": 900,
            "totalTokenCount": 1087,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 400}, {"modality": "AUDIO", "tokenCount": 600}],
        },
        Usage(1000, 7, 1087, 900, 50, details=TokenDetails(audio_prompt=600, tool=30)),
    ),
    "sound": (
        {**OPENAI, "prompt_tokens_details": {"audio_tokens": 40}, "completion_tokens_details": {"audio_tokens": 30}},
        Usage(10_000, 100, 10_100, details=TokenDetails(audio_prompt=40, audio_completion=30)),
    ),
    "reasoning at the top": ({**OPENAI, "reasoning_tokens": 60}, Usage(10_000, 100, 10_100, None, 60)),
    "xAI: reasoning apart is as large as what was cached": (
        {
            **OPENAI,
            "total_tokens": 10_900,
            "prompt_tokens_details": {"cached_tokens": 800},
            "completion_tokens_details": {"reasoning_tokens": 800},
        },
        Usage(10_000, 100, 10_900, 800, 800),
    ),
}


@pytest.mark.parametrize(("sent", "usage"), CACHES.values(), ids=CACHES)
def test_spellings(sent: dict[str, Any], usage: Usage) -> None:
    """Caches, reasoning, tools and sound under any name; what is cached is a part of the prompt, however it is counted."""
    assert read_usage(sent) == usage


COSTS: dict[str, tuple[dict[str, Any], float | None]] = {
    "OpenRouter": ({"cost": 0.03825, "cost_details": {"upstream_inference_cost": None}}, 0.03825),
    "DeepInfra": ({"estimated_cost": 1.5e-05}, 1.5e-05),
    "Perplexity": ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.006}}, 0.006),
    "xAI": ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
    "as text": ({"cost": "0.25"}, 0.25),
    "nothing": ({"cost": 0}, 0.0),
    "null": ({"cost": None, "estimated_cost": 0.5}, 0.5),
    "below nothing": ({"cost": -1}, None),
    "a truth": ({"cost": True}, None),
    "no number": ({"cost": "free"}, None),
    "not finite": ({"cost": float("nan")}, None),
    "more than anybody has": ({"cost": 1e300}, None),
    "none": ({}, None),
}


@pytest.mark.parametrize(("stated", "cost"), COSTS.values(), ids=COSTS)
def test_what_the_endpoint_says_that_it_cost(stated: dict[str, Any], cost: float | None) -> None:
    """In dollars, wherever it stands; what can be no amount is none."""
    usage = read_usage({**OPENAI, **stated})
    assert usage is not None
    assert usage.endpoint_cost_usd == cost


PLACES: dict[str, tuple[dict[str, Any], tuple[int, int, str, str | None]]] = {
    "beside": ({"usage": OPENAI, "service_tier": "flex"}, (10_000, 100, "reported", "flex")),
    "in the usage": ({"usage": {**OPENAI, "service_tier": "priority"}}, (10_000, 100, "reported", "priority")),
    "null": ({"usage": OPENAI, "service_tier": None}, (10_000, 100, "reported", None)),
    "Groq": ({"x_groq": {"usage": OPENAI}, "service_tier": "on_demand"}, (10_000, 100, "reported", "on_demand")),
    "Google": (
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}},
        (3, 4, "reported", None),
    ),
    "nowhere": ({"service_tier": "flex"}, (0, 0, "missing", "flex")),
}


@pytest.mark.parametrize(("envelope", "expected"), PLACES.values(), ids=PLACES)
def test_where_usage_stands(envelope: dict[str, Any], expected: tuple[int, int, str, str | None]) -> None:
    """In `usage`, in Groq's and in Google's place; the tier beside it or in it."""
    usage = usage_in(envelope)
    assert (usage.prompt, usage.completion, usage.source, usage.service_tier) == expected


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NAMES = st.sampled_from(
    ["prompt_tokens", "input_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens", "cached_tokens", "cost",
     "prompt_tokens_details", "completion_tokens_details", "cache_creation", "promptTokensDetails", "reasoning_tokens",
     "service_tier", "audio_tokens", "ephemeral_1h_input_tokens", "cost_in_usd_ticks", "modality", "tokenCount"]
)  # fmt: skip
VALUES = st.recursive(
    ANY, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(NAMES, VALUES))
def test_any_usage_is_read(sent: dict[str, Any]) -> None:
    """Whatever stands there: counts that can be summed up in a column of 64 bits, or none at all."""
    usage = read_usage(sent)
    if usage is not None:
        numbers = (usage.prompt, usage.completion, usage.total, usage.cached or 0, usage.reasoning or 0)
        assert all(0 <= number < 2**43 for number in numbers)
        assert usage.endpoint_cost_usd is None or usage.endpoint_cost_usd >= 0
