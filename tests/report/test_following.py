"""What a program follows a run by: JSON lines while it goes on, one object at its end."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Began, Done, Ended, Kept, Paused
from batchrun.records import Result
from batchrun.report.following import Following
from served import Endpoints
from virtual import FakeClock


def test_where_a_run_stands_is_told_every_few_seconds() -> None:
    """Records are those of the log; `progress` has the whole run's numbers and this call's pace, and why it waits."""
    out, clock = io.StringIO(), FakeClock()
    following = Following(out, clock.now)
    following.note("found an earlier run")
    for event in (Began(100, resumed=True), Kept(40, failed=2, tokens=400)):
        following.hear(event)
    for row in range(20):
        clock.time += 0.5
        following.hear(Done(Result(row, "r", "default", 0, "h", "ok", total_tokens=10, cost=1_000_000_000_000)))
    following.hear(Paused(EndpointError(Kind.SERVER, "HTTP 502"), 60.0))
    clock.time += 6.0
    following.hear(Ended(58, 2, "told to stop", 130))
    following.close()
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in found] == [
        "note",
        "resumed",
        "progress",
        "progress",
        "paused",
        "stopped",
        "progress",
    ]
    assert all("at" in one for one in found)
    first, last = found[2], found[-1]
    assert (first["requests"], first["done"], first["failed"], first["tokens"]) == (100, 50, 2, 500)
    assert first["rate_per_s"] == pytest.approx(2.0)
    assert first["eta_s"] == pytest.approx(25.0)
    assert first["cost_usd"] == 10.0
    assert first["waits_for"] is None
    assert "HTTP 502" in last["waits_for"]
    assert found[5]["exit_code"] == 130


def test_a_run_is_followed_by_a_program(batchrun: Callable[..., Any], embedded: Endpoints, tmp_path: Path) -> None:
    """`--progress json` has nothing but JSON lines on stderr, `--json` one object on stdout, also where nothing is to do and
    with --quiet.
    """
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    with embedded.serving() as url:
        line = ("run", "rows.jsonl", "--base-url", url, "--model", "m", "-o", "out", "--json")
        first = batchrun(*line, "--progress", "json", cwd=tmp_path)
        told = [json.loads(text)["event"] for text in first.stderr.splitlines()]
        assert told == ["started", "complete", "progress"]
        end = json.loads(first.stdout)
        assert (end["state"], end["requests"], end["ok"], end["asked"], end["exit_code"]) == ("complete", 2, 2, 2, 0)
        assert end["summary"][-1]["model"] == "total"
        assert (tmp_path / end["results"]).exists()
        again = batchrun(*line, "--progress", "json", "--quiet", cwd=tmp_path)
        assert again.stderr == ""
        assert json.loads(again.stdout)["asked"] == 0
