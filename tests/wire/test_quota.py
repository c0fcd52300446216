"""What headers state of an endpoint's limits, in the forms of the providers (endpoint.md §5)."""

import httpx
import pytest

from batchrun.records import StatedLimit
from batchrun.wire.faults.quota import stated_limits

NOW = 1_700_000_000.0
CASES: dict[str, tuple[dict[str, str], list[StatedLimit]]] = {
    "nothing": ({}, []),
    "OpenAI": (
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-remaining-tokens": "199984",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        [StatedLimit("requests", 500, 499, 0.12), StatedLimit("tokens", 200000, 199984, 360.0)],
    ),
    "Groq": (
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-reset-requests": "2m59.56s",
        },
        [StatedLimit("requests", 14400, 14370, 179.56)],
    ),
    "Mistral": (
        {
            "x-ratelimit-limit-tokens-minute": "5000000",
            "x-ratelimit-remaining-tokens-minute": "4999911",
            "x-ratelimit-tokens-query-cost": "52",
            "x-ratelimit-limit-req-minute": "720",
            "x-ratelimit-remaining-req-minute": "717",
        },
        [
            StatedLimit("tokens", 5000000, 4999911, None, 60.0),
            StatedLimit("requests", 720, 717, None, 60.0),
        ],
    ),
    "Cerebras": (
        {
            "x-ratelimit-limit-requests-day": "1000",
            "x-ratelimit-remaining-requests-day": "999",
            "x-ratelimit-reset-requests-day": "33011.4",
            "x-ratelimit-limit-tokens-minute": "60000",
        },
        [StatedLimit("requests", 1000, 999, 33011.4, 86400.0), StatedLimit("tokens", 60000, None, None, 60.0)],
    ),
    "Anthropic": (
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-output-tokens-limit": "8000",
        },
        [
            StatedLimit("requests", 50, 49, 1.0),
            StatedLimit("input_tokens", 40000),
            StatedLimit("output_tokens", 8000),
        ],
    ),
    "LiteLLM": (
        {
            "x-ratelimit-api_key-remaining-requests": "4",
            "x-ratelimit-api_key-limit-requests": "5",
            "x-ratelimit-team-limit-requests": "50",
            "x-ratelimit-model_per_key-limit-tokens": "9000",
            "llm_provider-x-ratelimit-limit-requests": "500",
        },
        [
            StatedLimit("requests", 5, 4, scope="api_key"),
            StatedLimit("requests", 50, scope="team"),
            StatedLimit("tokens", 9000, scope="model_per_key"),
        ],
    ),
    "GitHub Models": (
        {
            "x-ratelimit-limit-requests": "20000",
            "x-ratelimit-remaining-requests": "19999",
            "x-ratelimit-reset-requests": "3",
            "x-ratelimit-renewalperiod-requests": "60",
        },
        [StatedLimit("requests", 20000, 19999, 3.0, 60.0)],
    ),
    "below nothing": (
        {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "-12"},
        [StatedLimit("tokens", 100, 0.0)],
    ),
    "by cost": ({"x-ratelimit-limit-tokens_usage_based": "1500000"}, []),
    "any case": ({"X-RateLimit-Limit-Requests": "60"}, [StatedLimit("requests", 60)]),
    "of what is not said": ({"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "1"}, []),
    "no size": ({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1"}, []),
    "zero": ({"x-ratelimit-limit-requests": "0"}, []),
    "below zero": ({"x-ratelimit-limit-requests": "-1"}, []),
    "no number": ({"x-ratelimit-limit-requests": "unlimited", "x-ratelimit-limit-tokens": "nan"}, []),
    "a policy": ({"x-ratelimit-limit-requests": "60, 60;w=60"}, []),
    "nonsense beside it": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "many",
            "x-ratelimit-reset-requests": "soon",
        },
        [StatedLimit("requests", 60)],
    ),
}


@pytest.mark.parametrize(("headers", "limits"), CASES.values(), ids=CASES)
def test_stated_limits(headers: dict[str, str], limits: list[StatedLimit]) -> None:
    """Sizes, what remains and when it is renewed are read for each unit; what has no size or no unit is no limit."""
    assert stated_limits(httpx.Headers(headers), NOW) == limits
