"""kill -9 of the process group under load, again and again, against what the endpoint says it answered (contract.md §7)."""

import collections
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from bench import Site
from books import audit

CONCURRENCY = 16
MOST = 100
"""Requests in a round: all rounds together leave some, with what is in flight at each kill."""
ROUNDS = 12
ROWS = 1500
SHARD = 150


class Ledger:
    """What the endpoint wrote down, a line for each request received and each answer sent whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._skip = path.stat().st_size

    def counts(self, event: str) -> collections.Counter[str]:
        """How often each body was received or answered, since this was made."""
        with self._path.open("rb") as file:
            file.seek(self._skip)
            lines = [json.loads(line) for line in file.read().splitlines()]
        return collections.Counter(line["sha"] for line in lines if line["event"] == event)


@pytest.fixture
def site(slow_site: Site) -> Site:
    slow_site.write_rows(ROWS)
    return slow_site


def settings(**more: Any) -> dict[str, Any]:
    return {"concurrency": CONCURRENCY, "shard_requests": SHARD, **more}


def kill_in_rounds(site: Site, chance: random.Random) -> tuple[Path, int]:
    """Start and kill the run ROUNDS times, each time after another number of requests; returns its folder and kills."""
    folder = site.fresh()
    (bench,) = site.benches
    for _ in range(ROUNDS):
        running = bench.start(folder, **settings())
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 0.1))  # while it begins, and takes stock of what the last one left
        else:
            running.until(received=chance.randrange(1, MOST))
        running.kill()
        assert running.wait().code == -9
        assert not (folder / "out" / "results.parquet").exists(), "results appear whole or not at all"
    return folder, ROUNDS


def assert_recovered(site: Site, folder: Path, kills: int, ledger: Ledger) -> None:
    (bench,) = site.benches
    ended = bench.run(folder, **settings())
    assert ended.code == 0, ended.said
    attempts, unconfirmed = audit(folder / "out", ROWS)
    received, answered = ledger.counts("received"), ledger.counts("answered")
    assert len(received) == len(answered) == ROWS
    asked_again = received.total() - ROWS
    print(f"{kills} kills: {asked_again} rows asked again, {unconfirmed} attempts unconfirmed")
    assert asked_again <= CONCURRENCY * kills
    assert max(received.values()) <= kills + 1
    # every attempt that was cut off is confessed: it may have been billed
    assert asked_again <= unconfirmed <= CONCURRENCY * kills
    assert attempts == ROWS + unconfirmed


def killed_again_and_again(site: Site, chance: random.Random) -> None:
    ledger = Ledger(site.benches[0].ledger)
    folder, kills = kill_in_rounds(site, chance)
    assert_recovered(site, folder, kills, ledger)


def test_killed_again_and_again(site: Site) -> None:
    """Twelve kill -9 at random moments: every row once, in order; only what was in flight is asked again, and confessed."""
    killed_again_and_again(site, random.Random(1))


@pytest.mark.soak
def test_killed_at_many_more_moments(site: Site) -> None:
    """The same, again and again, at other moments each time."""
    assert site.soak is not None
    while site.soak.goes_on():
        killed_again_and_again(site, site.soak.chance)


def test_a_second_run_takes_over_at_once(site: Site) -> None:
    """A killed writer's lock dies with it: the next run starts without a wait, and leaves no working state behind."""
    (bench,) = site.benches
    site.write_rows(600)
    folder = site.fresh()
    running = bench.start(folder, **settings())
    running.until(received=40)
    running.kill()
    assert running.wait().code == -9
    ended = bench.run(folder, **settings())
    assert ended.code == 0, ended.said
    audit(folder / "out", 600)
