"""The waits that endpoints state, in every form (endpoint.md §5)."""

import pytest

from batchrun.wire.faults.duration import LONGEST_S
from batchrun.wire.faults.waits import headers_within, stated_wait_s, wait_in_text

NOW = 1_700_000_000.0
CASES: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 1.5 "}, 1.5),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "-3"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "1e999"}, None),
    ({"retry-after": "999999"}, 999999.0),
    ({"retry-after": "9999999"}, LONGEST_S),
    ({"retry-after": "1m30s"}, 90.0),
    ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
    ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
    ({"retry-after": "2023-11-14T22:13:50Z"}, 30.0),
    ({"retry-after": "2023-11-14T22:13:50"}, 30.0),
    ({"retry-after": "1700000020"}, 20.0),
    ({"retry-after": "1700000020500"}, 20.5),
    ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1.5s"}, 1.5),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "3"}, 3.0),
    ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
    ({"x-ratelimit-remaining-requests": "0"}, None),
    ({"x-ratelimit-remaining-tokens": "-12", "x-ratelimit-reset-tokens": "1.5s"}, 1.5),
    (
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "2s",
        },
        2.0,
    ),
    ({"retry-after": "1", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}, 1.0),
    (
        {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:25Z"},
        5.0,
    ),
    ({"retry-after": "99999999999999999999"}, LONGEST_S),
    ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_S),
    ({"retry-after": "Tue, 14 Nov 1923 22:13:10 GMT"}, 0.0),
    ({"retry-after": "Tue, 99 Nov 2023 99:13:10 GMT"}, None),
    ({"retry-after": "0001-01-01T00:00:00+23:59"}, 0.0),
    ({"retry-after": "2023-11-15T00:13:20+02:00"}, 0.0),
    ({"retry-after": "1.5m"}, 90.0),
    ({"retry-after": "1h2m3.5s"}, 3723.5),
    ({"retry-after": "5 apples"}, None),
    ({"retry-after-ms": "-5", "retry-after": "2"}, 2.0),
    ({"retry-after-ms": "1e12"}, LONGEST_S),
    ({"retry-after": "7", "x-ratelimit-remaining-requests": "5"}, 7.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000042000"}, 42.0),
    ({"ratelimit-remaining": "0", "ratelimit-reset": "42"}, 42.0),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1700000001"}, 1.0),
    (
        {
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:27Z",
        },
        7.0,
    ),
    (
        {"anthropic-ratelimit-tokens-remaining": "9", "anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:25Z"},
        None,
    ),
]


@pytest.mark.parametrize(("headers", "wait"), CASES, ids=str)
def test_stated_wait(headers: dict[str, str], wait: float | None) -> None:
    """A wait is read from every form; nonsense is no wait, the past is no wait at all, a month is the longest."""
    assert stated_wait_s(headers, NOW) == (None if wait is None else pytest.approx(wait))


GROQ = {
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-remaining-tokens": "100",
    "x-ratelimit-reset-tokens": "7.66s",
}


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_limit_that_was_hit_names_a_wait_though_something_remains(status: int) -> None:
    """What remains may be too little for this request: then the limit that is renewed first says how long at least."""
    assert stated_wait_s(GROQ, NOW, status) == pytest.approx(7.66)
    assert stated_wait_s({"x-ratelimit-reset-requests": "1s"}, NOW, status) == 1.0
    assert stated_wait_s({**GROQ, "x-ratelimit-remaining-requests": "0"}, NOW, status) == pytest.approx(179.56)
    assert stated_wait_s({**GROQ, "retry-after": "2"}, NOW, status) == 2.0


@pytest.mark.parametrize("status", [400, 500, 502])
def test_other_faults_do_not_wait_for_a_limit_that_is_not_spent(status: int) -> None:
    """Limits are told with every answer; a fault of another kind waits for one only where nothing remains of it."""
    assert stated_wait_s(GROQ, NOW, status) is None
    assert stated_wait_s({**GROQ, "x-ratelimit-remaining-tokens": "0"}, NOW, status) == pytest.approx(7.66)
    assert stated_wait_s({"retry-after": "2"}, NOW, status) == 2.0


TEXTS: list[tuple[str, float | None]] = [
    ("Please try again in 20s. Contact us", 20.0),
    ("Please try again in 6ms.", 0.006),
    ("Please try again in 7m12s", 432.0),
    ("Please try again in 1.898s. Need more?", 1.898),
    ("Please retry after 7 seconds.", 7.0),
    ("Please retry in 36.28s.", 36.28),
    ("Please wait for 2 minutes", 120.0),
    ("Please try again in 1 hour", 3600.0),
    ("Please try again in 3 days", 3 * 86_400.0),
    ("Please try again in 1 minute, 5 seconds", 65.0),
    ("retry after 500 milliseconds", 0.5),
    ("Please try again later", None),
    ("try again in a while", None),
    ("20s", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "wait"), TEXTS)
def test_wait_in_a_message(text: str, wait: float | None) -> None:
    """A wait that a message states in words is understood in every unit."""
    assert wait_in_text(text) == (None if wait is None else pytest.approx(wait))


def test_headers_within_a_body() -> None:
    """OpenRouter writes the headers of the limit that was hit into the error; any other shape has none."""
    headers = {
        "X-RateLimit-Limit": "50",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(1000 * (int(NOW) + 7200)),
    }
    body = {
        "error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day", "metadata": {"headers": headers}}
    }
    assert stated_wait_s(headers_within(body), NOW, 429) == pytest.approx(7200.0, abs=1.0)
    for other in (None, [], {"error": "x"}, {"error": {"metadata": []}}, {"error": {"metadata": {"headers": ["a"]}}}):
        assert headers_within(other) == {}
