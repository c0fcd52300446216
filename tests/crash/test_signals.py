"""Signals that end a run, or must not (contract.md §3). tests/cli/test_resume.py has the plain drains."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from bench import ROOT, Bench, Ended, Running, Site
from books import audit
from points import Calls, Point

CONCURRENCY = 8
ROWS = 120
STOPPERS = (signal.SIGINT, signal.SIGTERM)
SAMPLE = 8


@pytest.fixture
def slow(slow_site: Site) -> tuple[Site, Bench]:
    slow_site.write_rows(ROWS)
    return slow_site, slow_site.benches[0]


def assert_ended(ended: Ended, number: signal.Signals) -> None:
    assert ended.code == 128 + (signal.SIGTERM if number == signal.SIGHUP else number), ended
    assert "Traceback" not in ended.said, ended.said
    assert "fault of batchrun" not in ended.said, ended.said


def test_a_hangup_drains_like_sigterm(slow: tuple[Site, Bench]) -> None:
    """SIGHUP, as when a terminal closes, lets what is in flight finish; exit 143, and the same command goes on."""
    site, bench = slow
    rows = 5 * ROWS  # the signal must come in time, on a busy machine too
    site.write_rows(rows)
    folder = site.fresh()
    before = bench.stats()
    running = bench.start(folder, concurrency=CONCURRENCY, shard_requests=rows)
    running.until(received=24)
    os.kill(running.pid, signal.SIGHUP)
    ended = running.wait()
    assert_ended(ended, signal.SIGHUP)
    assert "run the same command again" in ended.said
    assert bench.stats()["ok"] - before["ok"] == ended.received < rows, "what was in flight was not waited for"
    again = bench.run(folder, concurrency=CONCURRENCY, shard_requests=rows)
    assert (again.code, again.received) == (0, rows - ended.received), again.said
    assert audit(folder / "out", rows) == (rows, 0)


def test_a_second_interrupt_ends_at_once(slow: tuple[Site, Bench]) -> None:
    """Ctrl-C again does not wait for answers, though the grace would; lost is only what was in flight, and it is confessed."""
    site, bench = slow
    folder = site.fresh()
    job = folder.parent / "job.toml"
    job.write_text(job.read_text() + "[timeouts]\ndrain = 600\n")  # it would see the answers, which come after a minute
    site.write_rows(CONCURRENCY)
    flags = ("--system", "Stall.")
    running = bench.start(folder, *flags, concurrency=CONCURRENCY)
    running.until(received=CONCURRENCY)
    interrupt_until_it_ends(bench, running)
    ended = running.wait()
    assert_ended(ended, signal.SIGINT)
    assert (ended.received, bench.done(folder)) == (CONCURRENCY, 0)
    again = bench.run(folder, *flags, concurrency=CONCURRENCY)
    assert (again.code, again.received) == (0, CONCURRENCY), again.said
    assert audit(folder / "out", CONCURRENCY) == (2 * CONCURRENCY, CONCURRENCY)


def interrupt_until_it_ends(bench: Bench, running: Running) -> None:
    """Ctrl-C, and again, until the run has ended."""
    while bench.lives(running.pid):
        os.kill(running.pid, signal.SIGINT)
        time.sleep(0.05)


def test_nohup_means_no_hangup(slow: tuple[Site, Bench]) -> None:
    """Under nohup the run lives through SIGHUP, and completes."""
    if shutil.which("nohup") is None:
        pytest.skip("there is no nohup")
    site, bench = slow
    folder = site.fresh()
    command = ["nohup", sys.executable, "-m", "batchrun", "run", "../job.toml", "-o", "out", "--base-url", bench.url]
    before = bench.stats()["received"]
    with subprocess.Popen(
        [*command, "--concurrency", "2", "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while bench.stats()["received"] < before + 8:
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.01)
            process.send_signal(signal.SIGHUP)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert audit(folder / "out", ROWS) == (ROWS, 0)


@pytest.mark.parametrize("number", STOPPERS)
def test_a_signal_during_the_first_scan(calls: Calls, number: signal.Signals) -> None:
    """While a large input is read for the first time: exit 130 or 143, nothing was sent, and the same command goes on."""
    site, bench = calls.site, calls.site.benches[0]
    site.write_rows(40, padding=100_000)
    folder = site.fresh()
    reads = ("-P", str(site.rows), "-o", "/dev/null", "-e", "trace=read,pread64")
    ended = bench.run(folder, strace=[*reads, "-e", f"inject=read,pread64:signal={number.name}:when=3"])
    assert_ended(ended, number)
    assert ended.received == 0
    again = bench.run(folder, shard_requests=20)
    assert (again.code, again.received) == (0, 40), again.said
    assert audit(folder / "out", 40) == (40, 0)


@pytest.mark.parametrize("number", STOPPERS)
def test_a_signal_during_the_final_merge(calls: Calls, number: signal.Signals) -> None:
    """While results.parquet is written: exit 130 or 143, no half file, and the same command ends the run unasked. What was
    answered until then is told.
    """
    site, bench = calls.site, calls.site.benches[0]
    writes = [one for one in calls.record() if one.is_data and re.search(r"\bresults\.parquet", one.shown)]
    assert writes
    folder = site.fresh()
    point = writes[len(writes) // 2]
    ended = bench.run(folder, strace=calls.inject(point, folder / "out", f"signal={number.name}"))
    assert_ended(ended, number)
    told = json.loads((folder / "out" / "run.json").read_bytes())
    assert (told["state"], told["stop"], told["counts"]) == ("stopped", "signal", {"requests": 4, "ok": 4, "failed": 0})
    again = bench.run(folder)
    assert (again.code, ended.received + again.received) == (0, 4), again.said
    assert audit(folder / "out", 4) == (4, 0)


def stopped_at(calls: Calls, number: signal.Signals, point: Point, faults: list[str], bench: Bench) -> None:
    """Let the signal come at one call of a run, and run the same command again."""
    folder = calls.site.fresh()
    # a second thread that comes to such a call gets a signal too: the same wish
    ended = bench.run(folder, strace=calls.inject(point, folder / "out", f"signal={number.name}"))
    try:
        if ended.code == 0:  # too late to stop anything
            audit(folder / "out", 4)
        elif (ended.code, ended.received) != (-number, 0):  # dying of it is well before anything was sent
            assert_ended(ended, number)
        again = bench.run(folder)
        assert again.code == 0, again.said
        attempts, unconfirmed = audit(folder / "out", 4)
        asked_again = ended.received + again.received - 4
        assert asked_again == unconfirmed == attempts - 4 == 0, f"{asked_again} asked again"
    except Exception as fault:
        faults.append(f"{point.kind} #{point.when} {point.shown}: {str(fault).partition(chr(10))[0]}")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
@pytest.mark.parametrize("count", [SAMPLE, pytest.param(0, marks=pytest.mark.soak)], ids=["some", "all"])
def test_a_signal_at_any_call(calls: Calls, number: signal.Signals, count: int) -> None:
    """Wherever a signal falls: an exit code of its own, no traceback, nothing asked twice, right books in the end."""
    points = [one for one in calls.record() if not one.is_data]
    chosen = [points[place * len(points) // count] for place in range(count)] or points
    faults: list[str] = []
    calls.site.everywhere([partial(stopped_at, calls, number, point, faults) for point in chosen])
    assert not faults, f"{len(faults)} of {len(chosen)} points:\n" + "\n".join(faults)
