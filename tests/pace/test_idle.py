"""A wire that rows which nobody answers leave idle, as whole runs in virtual time."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from virtual import Said, arun_virtually, job_of, prompt_of

BROKEN = httpx.Response(500, json={"error": {"message": "boom"}})


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_every_second_row_is_never_answered(tmp_path: Path, concurrency: int) -> None:
    """While they wait to be asked again others are asked, whose answers tell what ails them: each costs its attempts and little
    more, no good row fails, and the run takes minutes.
    """

    def endpoint(body: dict[str, Any], _at: float) -> Said:
        return Said(BROKEN, 0.1) if int(prompt_of(body)) % 2 else Said("yes", 0.2)

    story = arun_virtually(job_of(tmp_path, 300, concurrency=concurrency), endpoint)
    assert len(story.asked) <= 150 + 150 * 9
    assert story.seconds <= 900
    counts = story.outcome.ok, story.outcome.failed
    assert counts[0] == 150
    assert counts[1] >= 100


def test_an_outage_is_not_asked_more(tmp_path: Path) -> None:
    """Where nobody is answered any more, few others are asked beside those that wait."""
    story = arun_virtually(
        job_of(tmp_path, 600, concurrency=1),
        lambda _body, at: Said(BROKEN, 0.1) if 30 < at < 630 else Said("yes", 0.2),
    )
    assert story.counts() == (600, 0)
    assert story.asked_between(30, 630) <= 250
