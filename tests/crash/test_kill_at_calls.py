"""kill -9 just before each system call that changes the run directory, and the same command again (contract.md §7)."""

import collections
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bench import Bench, Ended
from books import assert_private, audit
from points import Calls, Point, assert_met, tried_again

CONCURRENCY = 2
SAMPLE = 6


class Scenario:
    """A run to be killed: what stands before it, its flags, and how many rows it ends with."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.site = calls.site
        self.flags: tuple[str, ...] = ()
        self.rows = 4
        self.kept: bytes | None = None
        self.knows = True

    def begin(self, *, rows: int, code: int = 0, killed_at: Point | None = None, url: str | None = None) -> Path:
        """Make the template by a run over so many rows; returns its run directory."""
        self.site.write_rows(rows)
        folder = self.site.fresh()
        strace = () if killed_at is None else self.calls.inject(killed_at, folder / "out", "signal=KILL")
        ended = self.site.benches[0].run(folder, strace=strace, url=url)
        assert ended.code == code, ended.said
        self.site.template = folder / "out"
        return folder / "out"

    def kill_at_each(self, choose: Callable[[list[Point]], list[Point]]) -> None:
        """Kill at every chosen point and run the same command again; almost all points must have been met."""
        points = choose(self.calls.record(*self.flags))
        unharmed = self.site.fresh()
        self.new = self.site.benches[0].run(unharmed, *self.flags).received
        self.clean = audit(unharmed / "out", self.rows)
        faults: list[str] = []
        met = tried_again(self.site, [partial(self._try, point, faults) for point in points])
        assert not faults, f"{len(faults)} of {len(met)} points:\n" + "\n".join(faults)
        assert_met(met)

    def _try(self, point: Point, faults: list[str], bench: Bench) -> bool:
        folder = self.site.fresh()
        out = folder / "out"
        killed = bench.run(folder, *self.flags, strace=self.calls.inject(point, out, "signal=KILL"))
        try:
            assert killed.code in (0, -9), killed
            self._recover(bench, folder, killed)
        except Exception as error:
            shown = str(error).partition("\n")[0]
            faults.append(f"{point.kind} #{point.when} {point.shown}: {type(error).__name__} {shown}")
        else:
            shutil.rmtree(folder)
        return bool(killed.code == -9)

    def _recover(self, bench: Bench, folder: Path, killed: Ended) -> None:
        out = folder / "out"
        if (out / "results.parquet").exists():
            pq.read_table(out / "results.parquet")  # whole or not at all
        known = bench.done(folder) if self.knows else 0
        again = bench.run(folder, *self.flags)
        assert again.code == 0, again.said
        attempts, unconfirmed = audit(out, self.rows)
        if self.kept is not None:
            assert again.received == self.new
            found = [path.read_bytes() for path in out.rglob("results.parquet")]
            assert self.kept in found, "--fresh lost the old results"
            assert (attempts, unconfirmed) == self.clean
            return
        clean_attempts, clean_unconfirmed = self.clean
        asked_again = killed.received + again.received - self.new
        confessed = unconfirmed - clean_unconfirmed
        assert 0 <= asked_again <= confessed <= CONCURRENCY, f"{asked_again} asked again, {confessed} confessed"
        assert attempts == clean_attempts + confessed, "an attempt is missing from the books, or too much in them"
        if self.knows:
            assert again.received == self.rows - known, "what the dead run had recorded was asked again"


@pytest.fixture
def scenario(calls: Calls) -> Scenario:
    return Scenario(calls)


def resumed(scenario: Scenario, _refusing: str) -> None:
    """A run that died with answers in its journals, attempts under way, and a torn tail in one of them."""
    writes = [one for one in scenario.calls.record() if one.kind == "write" and "journal" in one.shown]
    out = scenario.begin(rows=4, code=-9, killed_at=writes[-1])
    with (out / str(writes[-1].path)).open("ab") as journal:
        journal.write(b'{"result":{"row":3,"id":"3","vari')


def appended(scenario: Scenario, _refusing: str) -> None:
    """A complete run whose input grew: its last shard is another now, and its answers are drawn upon."""
    scenario.begin(rows=3)
    scenario.site.write_rows(5)
    scenario.rows = 5
    scenario.knows = False


def retried(scenario: Scenario, refusing: str) -> None:
    """A complete run with a failed row in each shard, to be asked again."""
    scenario.begin(rows=4, url=refusing, code=1)
    scenario.flags = ("--retry-failed",)
    scenario.knows = False


def fresh(scenario: Scenario, _refusing: str) -> None:
    """A complete run that is set aside."""
    out = scenario.begin(rows=4)
    scenario.kept = (out / "results.parquet").read_bytes()
    scenario.flags = ("--fresh",)


WIDER = [resumed, appended, retried, fresh]


def plain(points: list[Point]) -> list[Point]:
    """All points but the writes into Parquet files; of those the first, a middle one and the last of each file."""
    writes: dict[str, list[Point]] = collections.defaultdict(list)
    for point in points:
        if point.is_data:
            writes[point.shown].append(point)
    kept = {one for found in writes.values() for one in (found[0], found[len(found) // 2], found[-1])}
    return [point for point in points if not point.is_data or point in kept]


def sample(points: list[Point]) -> list[Point]:
    """Points spread evenly over the run, without the writes into Parquet files."""
    found = [point for point in points if not point.is_data]
    return [found[place * len(found) // SAMPLE] for place in range(SAMPLE)]


def test_a_kill_at_a_system_call_of_a_run(scenario: Scenario) -> None:
    """Wherever a first run dies, the same command ends with right books, and asks only what was in flight again: here at
    every third point.
    """
    scenario.kill_at_each(lambda points: plain(points)[::3])


@pytest.mark.parametrize("before", WIDER, ids=lambda one: one.__name__)
def test_a_kill_in_a_later_run(scenario: Scenario, before: Callable[[Scenario, str], None], refusing: str) -> None:
    """The same holds for a run that goes on with, grows, repairs or sets aside an earlier one: here at some points."""
    before(scenario, refusing)
    scenario.kill_at_each(sample)


def test_a_killed_run_is_as_private_as_a_whole_one(calls: Calls) -> None:
    """A file that the writer died over may be read by nobody else either."""
    begun = {one.shown: one for one in calls.record() if one.kind == "write"}
    for point in begun.values():
        folder = calls.site.fresh()
        calls.site.benches[0].run(folder, strace=calls.inject(point, folder / "out", "signal=KILL"))
        assert_private(folder / "out")


@pytest.mark.soak
def test_a_kill_at_any_system_call_of_a_run(scenario: Scenario) -> None:
    """And here at all points."""
    scenario.kill_at_each(plain)


@pytest.mark.soak
@pytest.mark.parametrize("before", WIDER, ids=lambda one: one.__name__)
def test_a_kill_at_any_call_of_a_later_run(
    scenario: Scenario, before: Callable[[Scenario, str], None], refusing: str
) -> None:
    """And here at all points."""
    before(scenario, refusing)
    scenario.kill_at_each(plain)


@pytest.mark.soak
def test_a_kill_at_any_write_into_a_parquet_file(scenario: Scenario) -> None:
    """A half-written part, result file or summary never counts."""
    scenario.kill_at_each(lambda points: [point for point in points if point.is_data])
