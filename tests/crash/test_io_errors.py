"""A call that the disk refuses: the run stops and says where and what to do; the same command then completes.

A fault strikes one call, or this call and all later ones of its kind on that file, as a full disk would have it.
"""

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from bench import CONCURRENCY, Bench, Ended
from books import audit
from points import Calls, Point, assert_met, tried_again

ERRORS = ("EIO", "ENOSPC", "EDQUOT")
REMEDIES = {"EIO": "disk", "ENOSPC": "space", "EDQUOT": "quota"}
SYNCS = ("fsync", "fdatasync")
REFUSABLE = re.compile("write|pwrite64|fsync|fdatasync|rename|link|ftruncate|unlink|mkdir|rmdir|openat")
SAMPLE = 12

Trial = tuple[Point, str, bool]


class Trials:
    """Refused calls, each in a run of its own, and what was found wrong. `new` are the rows that a run has to ask."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._faults: list[str] = []
        self.rows = self.new = 4

    def grow(self) -> None:
        """From here on a run finds three of five rows answered, in shards that are cut in another way."""
        site = self._calls.site
        site.write_rows(3)
        folder = site.fresh()
        ended = site.benches[0].run(folder)
        assert ended.code == 0, ended.said
        site.template = folder / "out"
        site.write_rows(5)
        self.rows, self.new = 5, 2

    def points(self) -> list[Point]:
        return [one for one in self._calls.record() if REFUSABLE.fullmatch(one.kind)]

    def refuse(self, trials: list[Trial]) -> None:
        """Try each (point, error, onward); fails with all that was found wrong."""
        assert trials
        met = tried_again(self._calls.site, [partial(self._try, *trial) for trial in trials])
        assert not self._faults, f"{len(self._faults)} faults in {len(met)} trials:\n" + "\n".join(self._faults)
        assert_met(met)

    def _try(self, point: Point, error: str, onward: bool, bench: Bench) -> bool:
        folder = self._calls.site.fresh()
        log = folder.parent / f"{folder.name}.strace"
        what = self._calls.inject(point, folder / "out", f"error={error}", onward=onward, log=str(log))
        broken = bench.run(folder, strace=what)
        met = "(INJECTED)" in log.read_text()
        for check in (partial(self._stopped, error, point.kind, met), partial(self._goes_on, bench)):
            try:
                check(folder, broken)
            except Exception as fault:
                told = str(fault).partition("\n")[0]
                way = "from here on" if onward else "once"
                self._faults.append(f"{error} {way} {point.kind} #{point.when} {point.shown}: {told}")
        return met

    def _stopped(self, error: str, kind: str, met: bool, folder: Path, broken: Ended) -> None:
        """Exit 3, or 2 where nothing was sent, with what, where and the remedy; or a run that did not need the call."""
        said = broken.said.replace("\n", " ")
        assert "Traceback" not in said, said
        if broken.code == 0:
            assert not met or kind not in SYNCS, "what a failed sync leaves behind was trusted"
            audit(folder / "out", self.rows, tidy=not (met and kind == "unlink"))
            return
        assert broken.code == 3 or (broken.code, broken.received) == (2, 0), f"exit {broken.code}: {said}"
        assert str(folder / "out") in said, f"no path: {said}"
        if broken.code == 3:
            assert "run the same command again" in said, f"no way on: {said}"
            assert REMEDIES[error] in said.lower(), f"no remedy: {said}"

    def _goes_on(self, bench: Bench, folder: Path, broken: Ended) -> None:
        """The same command completes; what was answered and journalled is not asked again."""
        known = bench.done(folder)
        again = bench.run(folder)
        assert again.code == 0, f"exit {again.code}: {again.said}"
        _attempts, unconfirmed = audit(folder / "out", self.rows)
        asked_again = broken.received + again.received - self.new
        # those in flight, and the answer whose own record was refused
        lost = CONCURRENCY + 1
        assert 0 <= asked_again <= unconfirmed <= lost, f"{asked_again} asked again, {unconfirmed} confessed"
        if self.new == self.rows:
            assert again.received == self.rows - known, f"{again.received} asked, though {known} were journalled"


@pytest.fixture
def trials(calls: Calls) -> Trials:
    return Trials(calls)


def spread(points: list[Point], count: int) -> list[Trial]:
    """Points spread evenly, with one error after another, every second time for good."""
    chosen = [points[place * len(points) // count] for place in range(count)]
    return [(one, ERRORS[place % 3], place % 2 == 1) for place, one in enumerate(chosen)]


def test_a_refused_call_stops_the_run_and_the_same_command_completes(trials: Trials) -> None:
    """EIO, ENOSPC and EDQUOT at points all over a run."""
    trials.refuse(spread([one for one in trials.points() if not one.is_data], SAMPLE))


def test_a_refused_call_while_earlier_answers_are_taken_over(trials: Trials) -> None:
    """The same where the input grew, at calls on working files that a first run does not have."""
    usual = {one.shown for one in trials.points()}
    trials.grow()
    trials.refuse(spread([one for one in trials.points() if one.shown not in usual], 6))


def test_a_failed_sync_of_a_journal_stops_the_run(trials: Trials) -> None:
    """After a failed sync the kernel may call pages clean that never reached the disk: nothing is built on them."""
    trials.refuse([(one, "EIO", False) for one in trials.points() if one.kind in SYNCS and "journal" in one.shown])


@pytest.mark.soak
@pytest.mark.parametrize("before", [lambda _trials: None, Trials.grow], ids=["first", "grown"])
def test_any_refused_call(trials: Trials, before: Callable[[Trials], None]) -> None:
    """Any error at any point, once or from there on, and at some of the many writes into Parquet files."""
    before(trials)
    found = trials.points()
    data = [one for one in found if one.is_data]
    chosen = [one for one in found if not one.is_data] + data[:: max(1, len(data) // 20)]
    trials.refuse(list(itertools.product(chosen, ERRORS, (False, True))))
