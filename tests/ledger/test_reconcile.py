"""What of an earlier run still holds: every step can be cut short, and taken again as often as it takes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchrun.ledger import durable, parts
from batchrun.ledger.identity import Shards
from batchrun.ledger.journal import rewrite
from batchrun.ledger.layout import Layout
from batchrun.ledger.lines import Line
from batchrun.ledger.reconcile import reconcile, reopen_failed
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Result, ShardInfo
from batchrun.report.status import read_progress

LAYOUT = Layout(pa.schema([("text", pa.string())]))
SHARDS = Shards("r", "c", tuple(ShardInfo(number, number, 1, 0, 0, 1, f"digest {number}") for number in range(2)))


def result(row: int) -> Result:
    """The first row failed."""
    if row:
        return Result(row, str(row), "default", 0, f"h{row}", "ok", "x", attempts=1)
    return Result(row, str(row), "default", 0, f"h{row}", "failed", error_kind="server", attempts=1)


def seal(run_dir: RunDir, number: int) -> None:
    inputs = pa.table({"text": [f"t{number}"]}, schema=LAYOUT.inputs)
    parts.write_part(run_dir.part(number), LAYOUT, inputs, 1, [result(number)])


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(str(tmp_path / "run"))
    made.acquire()
    return made


@pytest.fixture
def complete(run_dir: RunDir) -> RunDir:
    """A complete run of two shards with a row each."""
    for number in range(2):
        seal(run_dir, number)
    parts.merge([run_dir.part(number) for number in range(2)], run_dir.results, LAYOUT)
    with run_dir.summary.replacing() as path:
        path.write_bytes(b"the bill")
    run_dir.drop_parts()
    return run_dir


def test_no_bill_outlives_its_results(complete: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a complete run is opened again, its bill goes before its results: a death in between leaves no bill of nothing."""
    seen = []
    remove = durable.remove

    def watched(paths: list[Path]) -> None:
        remove(paths)
        seen.append((complete.results.exists(), complete.summary.exists()))

    monkeypatch.setattr(durable, "remove", watched)
    assert reopen_failed(complete, SHARDS, range(2), frozenset()) == 1
    assert seen == [(True, False), (False, False)]


def test_a_run_that_is_opened_again_has_all_its_results_all_the_time(
    complete: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its results are split into parts `status` counts them all, and none of them twice."""
    seen = []
    publish = parts.sealed.publish

    def watched(*args: Any) -> None:
        publish(*args)
        tally = read_progress(complete).tally
        seen.append((tally.ok, sum(tally.failed.values())))

    monkeypatch.setattr(parts.sealed, "publish", watched)
    reopen_failed(complete, SHARDS, range(2), frozenset())
    assert seen == [(1, 1), (1, 1)]


def test_a_part_that_cannot_be_read_is_set_aside_as_often_as_it_takes(run_dir: RunDir) -> None:
    """A disk that spoils what is written to it may spoil the same part again: its journal has the answers."""
    for _ in range(2):
        rewrite(run_dir.journal(1), "digest 1", [Line(result=result(1))])
        seal(run_dir, 1)
        part = Path(run_dir.place, run_dir.part(1).name)
        part.write_bytes(part.read_bytes()[:-1])
        assert reconcile(run_dir, SHARDS, SHARDS) == ["results/part-00001.parquet"]
        assert run_dir.open_journals() == {1}
        assert not run_dir.sealed()
    assert len(list((run_dir.state / "unreadable").rglob("part-00001.parquet"))) == 2
