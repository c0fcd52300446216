"""What a run holds, read from outside: while it is under way, when it has stopped, and once it is complete."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.embedded import parse_faults

ROWS = range(40)
REFUSED = "400 every=10"


@pytest.fixture
def stopped(start: Callable[..., Any]) -> Any:
    """A run of which about half is done, stopped by Ctrl-C; some of its requests were refused."""
    job = start(faults=parse_faults(REFUSED), first_token_s=0.15, slots=4)
    job.rows(ROWS)
    with job.running("--concurrency", "4", received=20) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130
    return job


def test_an_export_of_a_stopped_run_says_what_is_missing(stopped: Any) -> None:
    """The copy has every result there is, sealed or not, with its input's columns; the exit code is 1, and 0 with
    --partial.
    """
    done = stopped.status()["done"]
    assert 0 < done < len(ROWS)
    process = stopped.batchrun("export", stopped.out, stopped.folder / "half.csv")
    assert process.returncode == 1
    assert f"{len(ROWS) - done} of {len(ROWS)} requests have no result yet" in process.stderr
    assert "batchrun run" in process.stderr
    with (stopped.folder / "half.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == done
    assert all(one["number"] == one["row"] for one in rows)
    process = stopped.batchrun("export", stopped.out, stopped.folder / "half.parquet", "--partial")
    assert process.returncode == 0
    assert "no result yet" in process.stderr
    assert pq.read_table(stopped.folder / "half.parquet").num_rows == done


def test_some_of_what_there_is_is_exported(stopped: Any) -> None:
    """`--where` and `--columns` choose; what is missing is counted by what there is, not by what is chosen."""
    process = stopped.batchrun(
        "export",
        stopped.out,
        stopped.folder / "some.csv",
        "--where",
        "status = 'failed'",
        "--columns",
        "row,error_kind",
    )
    assert process.returncode == 1
    done = stopped.status()["done"]
    assert f"of {done} rows" in process.stdout
    assert f"{len(ROWS) - done} of {len(ROWS)} requests have no result yet" in process.stderr
    with (stopped.folder / "some.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {one["error_kind"] for one in rows} == {"bad_request"}


def test_the_summary_of_a_stopped_run_is_of_the_results_there_are(stopped: Any) -> None:
    """It sums what there is, sealed or not, and says how many are missing and why; complete, nothing is missing."""
    done = stopped.status()["done"]
    process = stopped.batchrun("summary", stopped.out)
    assert process.returncode == 0
    assert f"{len(ROWS) - done} of {len(ROWS)} requests have no result yet" in process.stderr
    assert "goes on" in process.stderr
    found = json.loads(stopped.batchrun("summary", stopped.out, "--json").stdout)
    assert found["total"]["requests"] == done
    assert found["missing"] == len(ROWS) - done
    stopped.run(code=1)
    found = json.loads(stopped.batchrun("summary", stopped.out, "--json").stdout)
    assert (found["total"]["requests"], found["missing"], found["state"]) == (len(ROWS), 0, "complete")


def test_a_run_under_way_is_read_without_disturbing_it(start: Callable[..., Any]) -> None:
    """Copies, failures and single rows are there while the run goes on, and it ends as if nobody had looked."""
    job = start(faults=parse_faults(REFUSED), first_token_s=0.2, slots=4)
    job.rows(ROWS)
    with job.running("--concurrency", "4", received=20) as process:
        export = job.batchrun("export", job.out, job.folder / "half.jsonl")
        failures = job.batchrun("failures", job.out)
        show = job.batchrun("show", job.out, "0")
        process.communicate(timeout=60)
    assert export.returncode == 1
    assert "the run is under way" in export.stderr
    assert 10 <= len((job.folder / "half.jsonl").read_text().splitlines()) < len(ROWS)
    assert failures.returncode == show.returncode == 0
    assert "bad_request" in failures.stdout
    assert "What is 0 + 1?" in show.stdout
    assert process.returncode == 1
    assert [one["row"] for one in job.results()] == list(ROWS)


def test_failures_are_told_by_kind_with_what_to_do(start: Callable[..., Any]) -> None:
    """Below the bill a short table; `failures` has the count, an example and what to do, --json the same as data."""
    job = start(faults=parse_faults(REFUSED))
    job.rows(ROWS)
    job.run("--concurrency", "1", code=1)
    assert "bad_request  HTTP 400: The request is invalid." in job.process.stdout
    assert "batchrun failures out" in job.process.stdout
    process = job.batchrun("failures", job.out)
    assert process.returncode == 0
    assert "4 × bad_request: HTTP 400" in process.stdout
    assert "for example row 9" in process.stdout
    assert "what to do: " in process.stdout
    shown = json.loads(job.batchrun("failures", job.out, "--json").stdout)
    assert (shown["failed"], shown["groups"][0]["count"], shown["groups"][0]["example"]["row"]) == (4, 4, 9)


def test_no_failures_are_said_too(start: Callable[..., Any]) -> None:
    """A run in which all went well has no table of failures, and `failures` says so."""
    job = start()
    job.rows(range(3))
    job.run()
    assert "failed  " not in job.process.stdout.splitlines()[-2]
    assert job.batchrun("failures", job.out).stdout.startswith("no failed requests")


def test_one_request_is_shown_as_it_was_sent(start: Callable[..., Any]) -> None:
    """By number or id: the prompt, the attempts, the answer, of every variant and sample."""
    job = start()
    (job.folder / "rows.jsonl").write_text(
        "".join(json.dumps({"id": f"q{n}", "text": f"{n} + 1"}) + "\n" for n in range(5))
    )
    (job.folder / "job.toml").write_text(
        'samples = 2\n[input]\npath = "rows.jsonl"\n[prompt]\nuser = "What is {{ text }}?"\n[sweep]\ntemperature = [0, 1]\n'
    )
    job.source = "job.toml"
    job.run()
    shown = json.loads(job.batchrun("show", job.out, "3", "--json", cwd=job.folder).stdout)["requests"]
    assert [(one["variant"], one["sample"]) for one in shown] == [
        (f"temperature={value}", sample) for value in (0, 1) for sample in (0, 1)
    ]
    assert all(one["messages"] == [{"role": "user", "content": "What is 3 + 1?"}] for one in shown)
    assert all(one["is_as_sent"] and one["result"]["completion"] == "4" for one in shown)
    assert shown[2]["parameters"]["temperature"] == 1
    text = job.batchrun("show", job.out, "q3", cwd=job.folder).stdout
    assert text.count("[user] What is 3 + 1?") == 4
    assert job.batchrun("show", job.out, "q9", cwd=job.folder).returncode == 2


def test_a_prompt_that_is_another_now_is_not_shown_as_sent(start: Callable[..., Any]) -> None:
    """What the input makes now is told from what was sent; where the input is gone the answer is still shown."""
    job = start()
    job.rows(range(3))
    job.run()
    job.rows([7, 8, 9])
    shown = json.loads(job.batchrun("show", job.out, "1", "--json", cwd=job.folder).stdout)["requests"][0]
    assert not shown["is_as_sent"] or shown["messages"] is None
    assert shown["result"]["completion"] == "2"
    (job.folder / "rows.jsonl").unlink()
    process = job.batchrun("show", job.out, "1", cwd=job.folder)
    assert process.returncode == 0
    assert "prompt: not known" in process.stdout
    assert "completion: 2" in process.stdout


def test_what_is_not_done_is_shown_too(stopped: Any) -> None:
    """A row without a result has a prompt all the same."""
    text = stopped.batchrun("show", stopped.out, str(ROWS[-1]), cwd=stopped.folder).stdout
    assert "no result yet" in text
    assert f"What is {ROWS[-1]} + 1?" in text


def test_a_row_is_found_by_a_run_whose_key_is_not_at_hand(start: Callable[..., Any], tmp_path: Path) -> None:
    """Reading needs no key, also where the job names one and its headers hold another."""
    job = start()
    job.rows(range(3))
    (job.folder / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[endpoint]\napi_key_env = "OWN_API_KEY"\nheaders = {"x-key" = "${OTHER_KEY}"}\n'
    )
    job.source = "job.toml"
    job.run(env={"OWN_API_KEY": "secret-1", "OTHER_KEY": "secret-2"})
    process = job.batchrun("show", job.out, "1", cwd=job.folder)
    assert process.returncode == 0, process.stderr
    assert "What is 1 + 1?" in process.stdout
