"""Steering a run that is under way from elsewhere: limits, pause and resume, stop; and looking at many runs."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def slow(start: Callable[..., Any]) -> Any:
    """A job of 300 rows whose endpoint takes 0.2 s for each."""
    job = start(first_token_s=0.2)
    job.rows(range(300))
    return job


def told(job: Any, *args: str) -> dict[str, Any]:
    process = job.batchrun(args[0], job.out, *args[1:], "--json")
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def test_a_run_is_slowed_paused_and_let_go_on(slow: Any) -> None:
    """Each order is answered with what is in force; nothing is sent while the run is paused, and all is answered in the end.
    The log tells it, and `status` knows since when and why.
    """
    with slow.running("--concurrency", "4", received=8) as process:
        assert told(slow, "set")["concurrency"] == 4
        now = told(slow, "set", "--concurrency", "40", "--rpm", "90000", "--max-attempts", "3")
        assert (now["concurrency"], now["requests_per_minute"], now["max_attempts"]) == (40, 90000, 3)
        assert told(slow, "pause")["paused"] is True
        status = slow.status()
        assert (status["state"], status["why"].startswith("by batchrun pause")) == ("paused", True)
        time.sleep(0.5)
        before = slow.endpoint.received
        time.sleep(0.8)  # four answers long
        assert slow.endpoint.received == before < 300
        assert told(slow, "resume")["paused"] is False
        assert slow.status()["state"] in ("running", "complete")
        process.communicate(timeout=60)
        assert process.returncode == 0
    slow.assert_answers(range(300))
    assert slow.endpoint.received == 300
    text = slow.batchrun("log", slow.out).stdout
    for said in ("set by batchrun set: concurrency 40", "paused by batchrun pause", "by batchrun resume"):
        assert said in text


def test_a_run_is_stopped_and_goes_on_with_what_was_set(slow: Any) -> None:
    """`stop` drains like SIGTERM; the run's directory keeps the limits that were set, for a call from it alone."""
    with slow.running("--concurrency", "8", received=8) as process:
        told(slow, "set", "--concurrency", "32")
        assert told(slow, "stop")["stopping"] is True
        _out, err = process.communicate(timeout=30)
        assert process.returncode == 143
    assert "stopped by batchrun stop" in err
    assert slow.status()["state"] == "stopped"
    assert json.loads((slow.out / "run.json").read_text())["steered"]["concurrency"] == 32
    process = slow.batchrun("run", slow.out, cwd=slow.folder)
    assert process.returncode == 0, process.stderr
    assert json.loads((slow.out / "run.json").read_text())["job"]["limits"]["concurrency"] == 32
    slow.assert_answers(range(300))
    assert slow.endpoint.received == 300


@pytest.mark.parametrize("name", ["set", "pause", "resume", "stop"])
def test_no_run_under_way_is_exit_2(start: Callable[..., Any], name: str) -> None:
    """An order for a run that is over, or is none, is refused and leaves nothing behind."""
    job = start()
    job.rows(range(2))
    job.run()
    for place in (job.out, job.folder):
        process = job.batchrun(name, place)
        assert process.returncode == 2
        assert "no run" in process.stderr
    assert not (job.out / ".state" / "orders").exists()


def test_an_order_that_others_could_have_written_is_not_obeyed(slow: Any) -> None:
    """A file that others may write, a link, or an order to an earlier run: each is taken away, and nothing is done."""
    with slow.running("--concurrency", "4", received=4) as process:
        orders = slow.out / ".state" / "orders"
        told(slow, "set")
        holder = (slow.out / ".state" / "lock").read_text().partition("\n")[0]
        order = {"run": holder, "number": "1", "stop": True}
        (slow.folder / "elsewhere.json").write_text(json.dumps(order))
        (orders / "a.json").symlink_to(slow.folder / "elsewhere.json")
        (orders / "b.json").write_text(json.dumps(order))
        (orders / "b.json").chmod(0o666)
        (orders / "c.json").write_text(json.dumps({**order, "run": "host x, pid 1, since yesterday"}))
        (orders / "d.json").write_text("{")
        os.mkfifo(orders / "e.json")
        assert told(slow, "set", "--concurrency", "64")["stopping"] is False
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert not list(orders.iterdir())


def test_status_is_watched_until_the_end(slow: Any) -> None:
    """`status --watch` shows it again and again, and ends with the run."""
    with slow.running("--concurrency", "64", received=4) as process:
        watched = slow.batchrun("status", slow.out, "--watch")
        process.communicate(timeout=60)
    assert watched.returncode == 0
    assert watched.stdout.count("requests done") >= 2
    assert "complete: 300/300" in watched.stdout


def test_runs_are_listed(start: Callable[..., Any]) -> None:
    """`ls` shows every run under a folder with its state, not what was set aside, and says where there is none."""
    job = start()
    job.rows(range(3))
    job.run()
    job.run("--fresh")
    process = job.batchrun("ls", cwd=job.folder)
    assert process.returncode == 0
    assert process.stdout.splitlines()[2].split()[:2] == ["out", "complete"]
    assert len(process.stdout.splitlines()) == 3
    shown = json.loads(job.batchrun("ls", job.folder, "--json").stdout)
    assert [(one["state"], one["done"]) for one in shown["runs"]] == [("complete", 3)]
    (job.folder / "empty").mkdir()
    assert "no runs under" in job.batchrun("ls", job.folder / "empty").stdout
    assert job.batchrun("ls", job.folder / "nowhere").returncode == 2
