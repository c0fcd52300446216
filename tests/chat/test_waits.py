"""The waits that endpoints state, in every form (endpoint.md §5)."""

import pytest

from batchrun.chat.waits import LONGEST_S, stated_wait_s

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
    ({"retry-after": "inf"}, LONGEST_S),
    ({"retry-after": "999999"}, LONGEST_S),
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
    (
        {"anthropic-ratelimit-tokens-remaining": "9", "anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:25Z"},
        None,
    ),
]


@pytest.mark.parametrize(("headers", "wait"), CASES, ids=str)
def test_stated_wait(headers: dict[str, str], wait: float | None) -> None:
    """A wait is read from every form; nonsense is no wait, the past is no wait at all, a day is the longest."""
    assert stated_wait_s(headers, NOW) == (None if wait is None else pytest.approx(wait))
