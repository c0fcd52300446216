"""The same command again: what is done is never asked again, whatever stopped or changed the run (contract.md §7)."""

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Fault, parse_faults


def test_the_same_command_again_asks_nothing(start: Callable[..., Any]) -> None:
    """A complete run is left as it is: nothing is asked, no file changes, the exit code is the same."""
    job = start()
    job.rows(range(30))
    assert job.run() == 30
    before = (job.out / "results.parquet").read_bytes()
    assert job.run() == 0
    assert "nothing to do" in job.process.stderr
    assert "30 ok, 0 failed" in job.process.stdout
    assert (job.out / "results.parquet").read_bytes() == before


def test_failed_rows_are_kept_and_asked_again_on_demand(start: Callable[..., Any]) -> None:
    """Exit 1 stays exit 1 and asks nothing; `--retry-failed` asks just the failed rows and makes it 0."""
    job = start(
        faults=(Fault(status=400, match="What is 7 +", times=1), Fault(status=400, match="What is 9 +", times=2))
    )
    job.rows(range(30))
    assert job.run(code=1) == 30
    assert job.run(code=1) == 0
    assert "28 ok, 2 failed" in job.process.stdout
    assert job.run("--retry-failed", code=1) == 2
    assert [one["number"] for one in job.results() if one["status"] == "failed"] == [9]
    assert job.run("--retry-failed") == 1
    job.assert_answers(range(30))
    assert job.endpoint.stats()["repeated"] == 0


def test_changed_rows(start: Callable[..., Any]) -> None:
    """Rows appended, inserted at the head, reordered or removed: only requests that are new are asked."""
    job = start()
    numbers = list(range(40))
    for change, asked in (
        (numbers, 40),
        ([*numbers, 90, 91, 92], 3),
        ([80, 81, *numbers, 90, 91, 92], 2),
        ([92, *reversed(numbers), 80], 0),
        (numbers[:5], 0),
    ):
        job.rows(change)
        assert job.run() == asked
        job.assert_answers(change)
    assert job.endpoint.stats()["repeated"] == 0


def test_a_changed_param_and_back(start: Callable[..., Any]) -> None:
    """A changed parameter asks every request again and says so; the old value again asks nothing. Settings that leave the
    body the same change nothing."""
    job = start()
    job.rows(range(20))
    assert job.run("--param", "temperature=0.1") == 20
    assert job.run("--param", "temperature=0.2", "--yes") == 20
    assert job.run("--param", "temperature=0.1") == 0
    job.assert_answers(range(20))
    assert job.run("--param", "temperature=0.2", "--concurrency", "3", "--timeout", "30", "--stream") == 0
    job.assert_answers(range(20))
    assert job.run("--param", "temperature=0.2", "--samples", "2") == 20
    assert [one["sample"] for one in job.results()] == [0, 1] * 20


def test_a_limit_first_and_then_all(start: Callable[..., Any]) -> None:
    """`--limit 10` asks ten; without it the others follow, and the ten are not asked again."""
    job = start()
    job.rows(range(30))
    assert job.run("--limit", "10") == 10
    job.assert_answers(range(10))
    assert job.run() == 20
    job.assert_answers(range(30))


def test_fresh_starts_over_and_deletes_nothing(start: Callable[..., Any]) -> None:
    """`--fresh` asks everything again; the old run is kept, whole, under set-aside."""
    job = start()
    job.rows(range(12))
    assert job.run() == 12
    before = (job.out / "results.parquet").read_bytes()
    assert job.run("--fresh") == 12
    assert "set aside" in job.process.stderr
    job.assert_answers(range(12))
    (kept,) = (job.out / "set-aside").iterdir()
    assert (kept / "results.parquet").read_bytes() == before
    assert {"cost_summary.parquet", "run.json"} <= {path.name for path in kept.iterdir()}


def test_one_writer(start: Callable[..., Any]) -> None:
    """While a run lives a second one is refused with exit 2 and the first one's pid; status reads on, unhindered."""
    job = start(slots=4, first_token_s=0.1)
    job.rows(range(900))
    with job.running("--concurrency", "4", received=12) as process:
        job.run("--concurrency", "4", code=2)
        assert f"pid {process.pid}" in job.process.stderr
        assert "Traceback" not in job.process.stderr
        shown = job.status()
        assert (shown["state"], shown["requests"]) == ("running", 900)
        assert 0 < shown["done"] < 900
    assert job.status()["state"] == "interrupted"


def test_a_wrong_key_stops_the_run_at_once(start: Callable[..., Any]) -> None:
    """Credentials that are refused stop after a probe with exit 3, nothing failed; with the right key it goes on."""
    job = start(api_key="right-key")
    job.rows(range(100))
    flags = ("--api-key-env", "MY_KEY", "--concurrency", "4")
    asked = job.run(*flags, env={"MY_KEY": "wrong-key"}, code=3, haste=20)
    assert asked <= 2 * 4
    assert "credentials" in job.process.stderr
    assert "api_key_env" in job.process.stderr
    assert "wrong-key" not in job.process.stderr
    shown = job.status()
    assert (shown["state"], shown["done"], shown["failed"]) == ("stopped", 0, 0)
    assert job.run(*flags, env={"MY_KEY": "right-key"}) == 100
    job.assert_answers(range(100))
    assert job.status()["state"] == "complete"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_drains_and_goes_on(start: Callable[..., Any], number: signal.Signals) -> None:
    """A signal lets what is in flight finish, then exit 130 or 143; the same command completes, and asks nothing twice."""
    job = start(slots=8, first_token_s=0.08)
    job.rows(range(160))
    with job.running("--concurrency", "8", received=16) as process:
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 128 + number
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    first = job.endpoint.stats()
    assert first["ok"] == first["received"] < 160, "what was in flight was waited for"
    shown = job.status()
    assert (shown["state"], shown["done"]) == ("stopped", first["ok"])
    assert job.run("--concurrency", "8") == 160 - first["received"]
    job.assert_answers(range(160))
    assert job.endpoint.stats()["repeated"] == 0


@pytest.fixture(scope="module")
def finished(job_in: Callable[..., Any], endpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A complete run of twelve rows."""
    job = job_in(tmp_path_factory.mktemp("finished"), endpoint)
    job.rows(range(12))
    job.run()
    return job


def test_status_and_summary_as_json(finished: Any, batchrun: Callable[..., Any]) -> None:
    """`--json` is one JSON object on stdout, and nothing on stderr."""
    shown = finished.status()
    assert (shown["state"], shown["requests"], shown["done"], shown["ok"], shown["failed"]) == (
        "complete",
        12,
        12,
        12,
        0,
    )
    process = batchrun("summary", finished.out, "--json")
    assert (process.returncode, process.stderr) == (0, "")
    summary = json.loads(process.stdout)
    assert summary["total"]["model"] == "total"
    assert (summary["total"]["requests"], summary["total"]["ok"]) == (12, 12)
    assert [row["variant"] for row in summary["rows"]] == ["default"]
    for command in ("status", "summary"):
        process = batchrun(command, finished.out)
        assert process.returncode == 0
        assert "12" in process.stdout


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_export(finished: Any, batchrun: Callable[..., Any], tmp_path: Path, ending: str) -> None:
    """The results in another format: every row and column, in order."""
    target = tmp_path / f"copy.{ending}"
    process = batchrun("export", finished.out, target)
    assert process.returncode == 0, process.stderr
    results = finished.results()
    if ending == "parquet":
        assert pq.read_table(target).to_pylist() == results
    elif ending == "jsonl":
        copies = [json.loads(line) for line in target.read_text().splitlines()]
        assert [list(copy) for copy in copies] == [list(one) for one in results]
        assert [(copy["number"], copy["completion"]) for copy in copies] == [(n, str(n + 1)) for n in range(12)]
    else:
        with target.open(newline="") as file:
            copies = list(csv.DictReader(file))
        assert [(copy["number"], copy["completion"], copy["refusal"]) for copy in copies] == [
            (str(n), str(n + 1), "") for n in range(12)
        ]


def test_plan_sends_nothing_and_check_sends_one(finished: Any, batchrun: Callable[..., Any], tmp_path: Path) -> None:
    """`plan` counts without a word to the endpoint, `check` shows one request and its answer; neither writes a file."""
    source = finished.folder / "rows.jsonl"
    flags = (source, "--model", "m", "--base-url", finished.endpoint.url, "--rpm", "60")
    before = finished.endpoint.received
    process = batchrun("plan", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert re.search(r"^requests\s+12 ", process.stdout, re.MULTILINE)
    assert "at least 12 s" in process.stdout
    assert finished.endpoint.received == before
    process = batchrun("check", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "What is 0 + 1?" in process.stdout
    assert re.search(r"^completion\s+1$", process.stdout, re.MULTILINE)
    assert finished.endpoint.received == before + 1
    assert not list(tmp_path.iterdir())


def test_what_was_refused_while_nobody_was_answered_is_asked_again(
    batchrun: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """A refusal that every row meets stops the run; the rows that it had failed until then are no failures of their own, and
    are asked again with the others when the endpoint takes them.
    """
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"What is {number} + 1?"}) + "\n" for number in range(40)))
    flags = (rows, "--model", "m", "-o", tmp_path / "out", "--concurrency", "2")
    with serve(
        faults=parse_faults(json.dumps([{"status": 400, "body": {"detail": "pinned to another model"}}]))
    ) as ill:
        first = batchrun("run", *flags, "--base-url", ill.url, haste=20)
    assert first.returncode == 3, first.stderr
    assert "pinned to another model" in first.stderr
    failed = int(batchrun("status", tmp_path / "out").stdout.partition(" failed")[0].rpartition(" ")[2])
    assert 0 < failed < 10
    assert f"{failed} had failed before that, and are asked again too" in first.stderr
    with serve() as well:
        again = batchrun("run", *flags, "--base-url", well.url)
    assert again.returncode == 0, again.stderr


def test_nothing_fails_while_nobody_is_answered(
    batchrun: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """An endpoint that gives rubbish from the start stops the run: no row is failed, and all are asked when it is well."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"What is {number} + 1?"}) + "\n" for number in range(40)))
    flags = (rows, "--model", "m", "-o", tmp_path / "out", "--max-attempts", "3")
    with serve(faults=parse_faults(json.dumps([{"status": 200, "body": {"ok": True}}]))) as ill:
        first = batchrun("run", *flags, "--base-url", ill.url, haste=20)
    assert first.returncode == 3, first.stderr
    assert "0/40 requests done (0.0 %), 0 failed" in batchrun("status", tmp_path / "out").stdout
    with serve() as well:
        again = batchrun("run", *flags, "--base-url", well.url)
    assert again.returncode == 0, again.stderr
    results = pq.read_table(tmp_path / "out/results.parquet").to_pylist()
    assert [one["completion"] for one in results] == [str(number + 1) for number in range(40)]
