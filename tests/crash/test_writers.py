"""Many writers on one directory: one runs, the others are told who it is (contract.md §7, promise 8)."""

import re
import socket
import time
from pathlib import Path

import pytest
from bench import Bench, Ended, Running, Site
from books import audit

WRITERS = 6
ROUNDS = 4
ROWS = 90
HOLDER = re.compile(r"host (\S+), pid (\d+), since (\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)")


@pytest.fixture
def site(slow_site: Site) -> Site:
    slow_site.write_rows(ROWS)
    return slow_site


def start_together(bench: Bench, folder: Path) -> list[Running]:
    """Writers that all begin at one instant."""
    at = time.monotonic() + 0.1
    return [bench.start(folder, log=f"said-{number}", at=at) for number in range(WRITERS)]


def only_one_of(bench: Bench, writers: list[Running]) -> Running:
    """The one that is left when all others have ended."""
    deadline = time.monotonic() + 30
    while len(living := [one for one in writers if bench.lives(one.pid)]) > 1:
        assert time.monotonic() < deadline, "several writers live on"
        time.sleep(0.005)
    assert living, "no writer lives"
    return living[0]


def assert_refused(ended: Ended, holder: int) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.said
    named = HOLDER.search(ended.said)
    assert named is not None, f"the holder is not named: {ended.said}"
    assert named[1] == socket.gethostname()
    assert int(named[2]) == holder, f"another one is named than pid {holder}: {ended.said}"


def test_one_of_many_writers_runs(site: Site) -> None:
    """Started at one instant, exactly one runs; the others exit 2 and name its host, its pid and since when."""
    (bench,) = site.benches
    folder = site.fresh()
    writers = start_together(bench, folder)
    ended = {writer.pid: writer.wait() for writer in writers}
    winners = [pid for pid, one in ended.items() if one.code == 0]
    assert len(winners) == 1, ended
    for pid, one in ended.items():
        if pid != winners[0]:
            assert_refused(one, winners[0])
    assert audit(folder / "out", ROWS) == (ROWS, 0)


def test_the_next_writer_takes_over_from_a_dead_one(site: Site) -> None:
    """After kill -9 of the holder one of many new writers takes over at once, and no one is told the dead one's name."""
    (bench,) = site.benches
    folder = site.fresh()
    before = bench.stats()["received"]
    for _ in range(ROUNDS):
        writers = start_together(bench, folder)
        holder = only_one_of(bench, writers)
        holder.kill()
        for writer in writers:
            ended = writer.wait()
            if writer is holder:
                assert ended.code == -9
            else:
                assert_refused(ended, holder.pid)
    ended = bench.run(folder)
    assert ended.code == 0, ended.said
    _attempts, unconfirmed = audit(folder / "out", ROWS)
    assert bench.stats()["received"] - before - ROWS <= unconfirmed <= 2 * ROUNDS
