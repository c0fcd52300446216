"""Rows that are refused for good while others are answered, as whole runs in virtual time."""

import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from virtual import Endpoint, Said, arun_virtually, job_of, prompt_of


def refused(status: int, after_s: float = 0.1) -> Said:
    return Said(httpx.Response(status, json={"error": {"message": "refused"}}), after_s)


def always(status: int, rows: tuple[int, ...], after_s: float) -> Endpoint:
    """These rows are refused whenever they are asked, the others answered in 0.2 to 0.3 s."""
    draws = random.Random(7)

    def endpoint(body: dict[str, Any], _at: float) -> Said:
        good = Said("yes", 0.2 + draws.random() / 10)
        return refused(status, after_s) if int(prompt_of(body)) in rows else good

    return endpoint


@pytest.mark.parametrize("after_s", [0.05, 0.25, 1.0])
@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("rows", [(7, 33), (5,), tuple(range(1, 40, 4))], ids=["two", "one", "ten"])
def test_all_in_flight_at_once(tmp_path: Path, status: int, rows: tuple[int, ...], after_s: float) -> None:
    """Nothing is left to compare with, and nothing needs to be: others that began meanwhile were answered."""
    story = arun_virtually(job_of(tmp_path, 60, concurrency=64), always(status, rows, after_s))
    assert story.outcome.exit_code == 1, story.outcome.message
    assert story.counts() == (60 - len(rows), len(rows))
    assert len(story.asked) <= 60 + len(rows) * (8 if status == 401 else 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("status", "concurrency"), [(401, 64), (401, 8), (403, 64), (404, 8)])
def test_refused_at_random(tmp_path: Path, status: int, concurrency: int, seed: int) -> None:
    """One key of a relay's pool is bad: three in ten requests are refused, whoever asks. No row fails for it, but perhaps
    one of the first for a status that may be about its text, before that is known to come and go.
    """
    draws = random.Random(seed)
    story = arun_virtually(
        job_of(tmp_path, 150, concurrency=concurrency),
        lambda _body, _at: refused(status) if draws.random() < 0.3 else Said("yes", 0.2),
    )
    assert story.outcome.exit_code in (0, 1), story.outcome.message
    assert story.counts()[1] <= (0 if status == 401 else 1)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_revoked_fails_no_row(tmp_path: Path, status: int) -> None:
    """From one moment on everybody is refused: the run stops, and whoever was on the wire then stays to be done."""
    story = arun_virtually(
        job_of(tmp_path, 2000, concurrency=64), lambda _body, at: refused(status) if at > 2.0 else Said("yes", 0.3)
    )
    assert story.outcome.exit_code == 3
    assert story.counts()[1] == 0
    assert len([one for one in story.asked if one.at > 2.0]) <= 64 + 30
