"""A wall clock that jumps an hour in the middle of a run, and back: the books don't care."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bench import Bench, Ended, Site
from books import audit

ROWS = 40
HOUR = 3600


@pytest.fixture
def long_site(site: Site) -> Site:
    site.write_rows(ROWS)
    return site


def jumped_run(site: Site, folder: Path, jump_s: int) -> tuple[Bench, Ended]:
    bench = site.benches[0]
    return bench, bench.run(folder, jump_s=jump_s, shard_requests=8)


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR])
def test_a_clock_that_jumps(long_site: Site, jump_s: int) -> None:
    """Forward or back: each row is asked once, and what is measured is measured by another clock."""
    folder = long_site.fresh()
    bench, ended = jumped_run(long_site, folder, jump_s)
    assert (ended.code, ended.received) == (0, ROWS), ended.said
    assert audit(folder / "out", ROWS) == (ROWS, 0)
    table = pq.read_table(folder / "out" / "results.parquet")
    started = [at.timestamp() for at in table["started_at"].to_pylist()]
    assert max(started) - min(started) > 0.9 * HOUR, "the clock did not jump while rows were asked"
    assert all(0 <= seconds < HOUR / 2 for seconds in table["latency_s"].to_pylist())
    total = pq.read_table(folder / "out" / "cost_summary.parquet").to_pylist()[-1]
    assert total["started_at"] <= total["finished_at"]
    again = bench.run(folder, shard_requests=8)
    assert (again.code, again.received) == (0, 0), "a complete run is complete at any hour"


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR])
def test_a_kill_between_two_hours(long_site: Site, jump_s: int) -> None:
    """A run that dies in another hour is gone on with in this one, and one of this hour in that."""
    bench = long_site.benches[0]
    before = bench.stats()["received"]
    folder = long_site.fresh()
    for now_s in (jump_s, 0, jump_s):
        running = bench.start(folder, jump_s=now_s, shard_requests=8)
        running.until(received=4)
        running.kill()
        assert running.wait().code == -9
    _bench, ended = jumped_run(long_site, folder, jump_s)
    assert ended.code == 0, ended.said
    _attempts, unconfirmed = audit(folder / "out", ROWS)
    assert bench.stats()["received"] - before - ROWS <= unconfirmed <= 6
