"""Rough limits and outages as whole runs in virtual time: what a run takes, how often it asks, and that no row pays for it.

The table is the document; `endpoints.py` has its endpoints. `test_field.py` has what is rough about one answer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from virtual import Endpoint, Said, Story, arun_virtually, job_of, prompt_of

from .endpoints import (
    DAY,
    MINUS,
    PAST,
    SOON,
    STUCK,
    TOGETHER,
    ZERO,
    AtOnce,
    OneStream,
    PerSecond,
    Poisoned,
    after_hours,
    by_the_day,
    evenly_by_the_day,
    good,
    parallel,
    refusal,
    window,
)

Made = Callable[[], Endpoint | httpx.AsyncBaseTransport]


class Case(NamedTuple):
    """Expected: `code`, `failed` rows, all others ok (where the code is not 3), at most `most` requests and `seconds`."""

    name: str
    endpoint: Made
    rows: int
    most: int
    seconds: float
    concurrency: int = 64
    tables: dict[str, Any] = {}
    code: int = 0
    failed: int = 0
    says: str = ""


CASES = [
    Case("a row that kills the server", Poisoned, 200, 600, 600, concurrency=16, code=1, failed=1),
    Case("a wait of zero", lambda: PerSecond(5, refusal(429, "Too Many Requests", ZERO)), 150, 600, 120),
    Case("a wait in the past", lambda: PerSecond(5, refusal(429, "Too Many Requests", PAST)), 150, 600, 120),
    Case("limits of minus one", lambda: PerSecond(5, refusal(429, "Too Many Requests", MINUS)), 150, 600, 120),
    Case("credit in type, rate in words", lambda: PerSecond(10, refusal(429, TOGETHER, type="credit_limit")), 200, 800, 90),
    Case("a 429 that says not to retry", lambda: PerSecond(5, refusal(429, "Rate limit reached", SOON)), 150, 600, 120),
    Case("four at once, a minute stated", lambda: AtOnce(4, parallel), 100, 250, 60),
    Case("one stream, broken by the next", OneStream, 100, 250, 180),
    Case("a day's quota in an id", lambda: by_the_day(100), 150, 400, 4500),
    Case(
        "a day stated, and renewed after two hours",
        lambda: lambda _body, at: Said("yes", 0.5) if not 2 < at < 7200 else refusal(429, DAY, {"Retry-After": "86400"}),
        1000, 1100, 3 * 3600,
    ),
    Case(
        "a day stated, longer than allowed",
        lambda: lambda _body, at: Said("yes", 0.5) if at < 2 else refusal(429, DAY, {"Retry-After": "86400"}),
        1000, 400, 600, tables={"retry": {"longest_wait_s": 3600}}, code=3, says="until",
    ),
    Case("nine hours stated for the last row of all", lambda: after_hours(2), 1, 20, 3 * 3600),
    Case("a quota of a day that is renewed evenly", lambda: evenly_by_the_day(6.0), 60, 190, 450),
    Case("plain 429", lambda: PerSecond(5, refusal(429, "Too Many Requests")), 150, 600, 120),
    Case(
        "a counter that stands still",
        lambda: lambda _body, _at: Said(httpx.Response(200, json=good().json(), headers=STUCK), 0.5), 400, 400, 15,
    ),
    Case("eight at once, no wait stated", lambda: AtOnce(8, lambda: httpx.Response(429)), 400, 1000, 60),
    Case("half a minute of refused connections", lambda: window(10, 38, httpx.ConnectError("refused")), 600, 650, 90, 8),
    Case("a wrong key from the first", lambda: window(0, 1e9, refusal(401, "Incorrect API key")), 3000, 74, 60, code=3),
    Case("an unknown model from the first", lambda: window(0, 1e9, refusal(404, "No such model")), 3000, 74, 60, code=3),
    Case("ten seconds of 401", lambda: window(4, 14, refusal(401, "Unauthorized")), 600, 650, 60, 16),
    Case("ten seconds of 403", lambda: window(4, 14, refusal(403, "Forbidden")), 600, 650, 60, 16),
    Case("ten seconds of 404", lambda: window(4, 14, refusal(404, "Model not found.")), 600, 650, 60, 16),
    Case("a model that loads for 75 seconds", lambda: window(0, 75, refusal(503, "Loading model")), 200, 400, 180),
    Case("a model that is scaled to zero for ten minutes", lambda: window(60, 660, 503, 1.0), 600, 900, 900, 8),
    Case(
        "a timeout below what answers take", lambda: lambda _body, _at: Said("yes", 6.0), 400, 74, 60,
        tables={"timeouts": {"total": 4.0}}, code=3, says="[timeouts] total",
    ),
    Case(
        "a firewall that dislikes the first rows",
        lambda: lambda body, _at: refusal(403, "blocked") if prompt_of(body) in ("0", "1", "2") else "yes",
        200, 230, 260, concurrency=2, code=1, failed=3,
    ),
]  # fmt: skip


def told(case: Case, folder: Path) -> Story:
    return arun_virtually(job_of(folder, case.rows, concurrency=case.concurrency, **case.tables), case.endpoint())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rough_hour(case: Case, tmp_path: Path) -> None:
    """The exit code, no row that pays for what was the endpoint's fault, and how long and how often it was asked."""
    story = told(case, tmp_path)
    assert story.outcome.exit_code == case.code, story.outcome.message
    assert len(story.asked) <= case.most
    assert story.seconds <= case.seconds
    assert case.says in (story.outcome.message or "")
    if case.code != 3:
        assert story.counts() == (case.rows - case.failed, case.failed)
