"""What a change of job, input or directory keeps, and what the books say of it (contract.md §7.2, §7.7)."""

import datetime
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Fault
from batchrun.ledger.durable import with_checksum
from batchrun.ledger.journal import rewrite
from batchrun.ledger.lines import Line
from batchrun.ledger.parts import read_results
from batchrun.ledger.store import LocalStore, Stored
from terminals import until

REFUSED = (Fault(status=400, match="What is 3 +", times=1), Fault(status=400, match="What is 7 +", times=2))


def refused(job: Any) -> list[int]:
    return [one["number"] for one in job.results() if one["status"] == "failed"]


def test_a_failure_is_kept_over_a_change(start: Callable[..., Any]) -> None:
    """A failed request is neither new nor changed: rows inserted before it ask for themselves alone. `--retry-failed` asks
    the failures, also together with a change, and the attempts that each had before stay in the books."""
    job = start(faults=REFUSED)
    job.rows(range(10))
    assert job.run(code=1) == 10
    job.rows([50, 51, *range(10)])
    assert job.run(code=1) == 2
    assert "10 answers are kept, 2 requests are asked again" in job.process.stderr
    assert refused(job) == [3, 7]
    job.rows([52, *range(10)])
    assert job.run("--retry-failed", code=1) == 1 + 2
    assert refused(job) == [7]
    assert job.run("--retry-failed") == 1
    job.assert_answers([52, *range(10)])
    attempts = {one["number"]: one["attempts"] for one in job.results()}
    assert (attempts[3], attempts[7], attempts[0]) == (2, 3, 1)
    job.rows([*range(10), 7])
    assert job.run() == 1, "a failure that was fixed does not come back"
    job.assert_answers([*range(10), 7])


def test_what_was_in_flight_is_told_and_stays_in_the_books(start: Callable[..., Any], tmp_path: Path) -> None:
    """After kill -9 the next call says how many requests were in flight and what they may have cost at most, also where
    the input has changed meanwhile; each is an unconfirmed attempt of the request that is asked again."""
    job = start(slots=4, first_token_s=0.05)
    (tmp_path / "job.toml").write_text(
        "[prices.m]\ninput = 100\noutput = 100\n[params]\nmax_tokens = 10\n[input]\npath='rows.jsonl'\n"
    )
    job.source = "job.toml"
    job.rows(range(200))
    with job.running("--concurrency", "4", received=16) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = job.status()
    assert before["state"] == "interrupted"
    assert 1 <= before["in_flight"] <= 4
    job.rows([80, *range(200)])
    job.run("--concurrency", "4")
    said = job.process.stderr
    assert f"{before['in_flight']} requests were in flight when the run broke off: at most $0.0" in said
    assert f"{before['done']} answers are kept, {201 - before['done']} requests are asked again (about $" in said
    job.assert_answers([80, *range(200)])
    assert sum(one["unconfirmed_attempts"] for one in job.results()) == before["in_flight"]
    assert sum(one["attempts"] for one in job.results()) == 201 + before["in_flight"]


@pytest.mark.parametrize("lost", ["run.json", "cost_summary.parquet", ".state/inventory.json", ".state"])
def test_a_complete_run_that_lost_a_file_asks_nothing(start: Callable[..., Any], lost: str) -> None:
    """Results that are there are used, whatever else is gone; what is missing is made again."""
    job = start()
    job.rows(range(9))
    assert job.run() == 9
    path = job.out / lost
    if path.is_dir():
        for inner in path.iterdir():
            inner.unlink()
        path.rmdir()
    else:
        path.unlink()
    assert job.run() == 0
    job.assert_answers(range(9))
    assert job.status()["state"] == "complete"
    assert (job.out / "cost_summary.parquet").exists()


def test_another_form_of_the_results_asks_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    """`single_file` may be changed back and forth on a complete run: files are merged and split, nothing is asked."""
    job = start()
    job.rows(range(9))
    (tmp_path / "job.toml").write_text("[input]\npath='rows.jsonl'\n[output]\nsingle_file = false\n")
    assert job.run() == 9
    job.source = "job.toml"
    assert job.run() == 0
    assert not (job.out / "results.parquet").exists()
    assert pq.read_table(job.out / "results").num_rows == 9
    job.source = "rows.jsonl"
    assert job.run() == 0
    job.assert_answers(range(9))


def test_answers_of_another_run_are_taken_over(start: Callable[..., Any], tmp_path: Path) -> None:
    """`reuse` draws on other runs' answers, on what they set aside too, each once; a folder without a run is exit 2 and
    changes nothing."""
    job = start()
    job.rows([1, 2, 2, 3])
    assert job.run() == 4
    job.rows([4])
    assert job.run() == 1
    job.out.rename(tmp_path / "earlier")
    (tmp_path / "job.toml").write_text("reuse = ['earlier']\n[input]\npath='rows.jsonl'\n")
    job.source = "job.toml"
    job.rows([2, 2, 2, 4, 5, 1])
    assert job.run() == 2
    assert "4 answers are kept, 2 requests are asked again" in job.process.stderr
    job.assert_answers([2, 2, 2, 4, 5, 1])
    assert job.run() == 0
    (tmp_path / "job.toml").write_text("reuse = ['nowhere']\n[input]\npath='rows.jsonl'\n")
    assert job.run(code=2) == 0
    assert "reuse: nowhere: no results there" in job.process.stderr
    assert job.status()["state"] == "complete"


def test_status_while_it_runs(start: Callable[..., Any]) -> None:
    """From another terminal: pace, time left, failures by kind and money, without hindering the run."""
    job = start(slots=4, first_token_s=0.03, faults=(Fault(status=400, match="What is 3 +"),))
    job.rows(range(1500))
    with job.running("--concurrency", "4", received=60):
        until(lambda: job.status()["rate_per_s"] is not None, "no pace is told")
        shown = job.status()
        text = job.batchrun("status", job.out).stdout
    assert shown["state"] == "running"
    assert shown["rate_per_s"] > 0
    assert shown["eta_s"] > 0
    assert shown["failed_by_kind"] == {"bad_request": 1}
    assert 0 <= shown["in_flight"] <= 4
    assert "failed:   bad_request 1" in text
    assert "requests/s over the last minute, about" in text
    assert json.dumps(shown)


def test_a_row_with_a_new_column(start: Callable[..., Any]) -> None:
    """A row that brings a new column changes the columns of all parts: they are made again, and only that row is asked."""
    job = start()
    job.rows(range(2003))
    assert job.run() == 2003
    with (job.folder / "rows.jsonl").open("a") as file:
        file.write('{"number": 3000, "prompt": "What is 3000 + 1?", "note": "new"}\n')
    assert job.run() == 1
    job.assert_answers([*range(2003), 3000])
    assert [one["note"] for one in job.results()] == [None] * 2003 + ["new"]
    assert job.endpoint.stats()["repeated"] == 0


def test_status_of_a_run_that_waits_for_its_endpoint(start: Callable[..., Any]) -> None:
    """From another terminal: that the run is paused, since when and why; a time left would be a guess."""
    stall = Fault(action="stall", after=41, first=42, seconds=60)
    job = start(faults=(Fault(status=401, after=40, first=41), stall))
    job.rows(range(600))
    with job.running("--concurrency", "1", received=42):
        shown = job.status()
        text = job.batchrun("status", job.out).stdout
    assert shown["state"] == "paused"
    assert datetime.datetime.fromisoformat(shown["since"]).tzinfo is not None
    assert shown["why"].startswith("probing the endpoint: HTTP 401")
    assert re.fullmatch(r"paused since [\d: +-]+, probing the endpoint: HTTP 401: .+", shown["message"])
    assert (shown["eta_s"], shown["message"] in text) == (None, True)
    assert job.status()["message"] is None


def test_a_directory_of_an_earlier_version_goes_on(start: Callable[..., Any]) -> None:
    """Where the state does not say what it holds for (it did so in another way once), every answer is found again by what
    it answers: nothing is asked again."""
    job = start()
    job.rows(range(30))
    assert job.run() == 30
    kept = job.out / ".state" / "inventory.json"
    state = json.loads(kept.read_bytes().rpartition(b',"crc":"')[0] + b"}")
    state["files"], state["settings"], state["requests"] = (
        state["inventory"]["files"],
        "s",
        state.pop("identity")["requests"],
    )
    kept.write_bytes(with_checksum(json.dumps(state).encode()))
    assert job.run() == 0
    assert "30 answers are kept, 0 requests are asked again" in job.process.stderr
    job.assert_answers(range(30))
    assert job.run() == 0
    assert "nothing to do" in job.process.stderr


@pytest.mark.parametrize("changed", [False, True], ids=["the same job", "a changed job"])
def test_a_part_that_cannot_be_read_gives_way_to_its_journal(start: Callable[..., Any], changed: bool) -> None:
    """A crash between a part's writing and its journal's removal leaves both: where the part can't be read, the journal's
    answers count, and nothing is asked again, not now and not in the next call."""
    job = start()
    job.rows(range(20))
    assert job.run() == 20
    state = job.out / ".state"
    kept = json.loads((state / "inventory.json").read_bytes().rpartition(b',"crc":"')[0] + b"}")
    results = list(read_results(Stored(LocalStore(job.out), "results.parquet")))
    rewrite(
        state / "journal-00000.jsonl", kept["inventory"]["shards"][0]["digest"], [Line(result=one) for one in results]
    )
    (job.out / "results").mkdir()
    (job.out / "results" / "part-00000.parquet").write_bytes((job.out / "results.parquet").read_bytes()[:-20])
    for name in ("results.parquet", "cost_summary.parquet"):
        (job.out / name).unlink()
    manifest = json.loads((job.out / "run.json").read_text())
    (job.out / "run.json").write_text(json.dumps({**manifest, "state": "running"}))
    if changed:
        job.rows([99, *range(20)])
    assert job.run() == changed
    assert "part-00000.parquet cannot be read and is set aside; its answers are in its journal" in job.process.stderr
    job.assert_answers([99, *range(20)] if changed else range(20))
    assert job.run() == 0
