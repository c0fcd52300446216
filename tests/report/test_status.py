"""How far a run is, from its journals."""

from pathlib import Path

import pytest

from batchrun.errors import LedgerError
from batchrun.ledger.journal import rewrite
from batchrun.ledger.lines import Line, Lost, Sent
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Result
from batchrun.report.status import read_progress


def test_an_attempt_is_in_flight_until_it_is_over(tmp_path: Path) -> None:
    """Lost, paid for and not yet judged, or a result: each is an end."""
    run_dir = RunDir(str(tmp_path))
    run_dir.state.mkdir()
    ends = {
        0: [],
        1: [Line(lost=Lost(1, "default", 0, 1))],
        2: [Line(paid=Result(2, "2", "default", 0, "h", "ok"))],
        3: [Line(result=Result(3, "3", "default", 0, "h", "ok"))],
    }
    lines = [line for row, end in ends.items() for line in (Line(sent=Sent(row, "default", 0, "h", None)), *end)]
    rewrite(run_dir.journal(0), "digest", lines)
    progress = read_progress(run_dir)
    assert (progress.in_flight, progress.tally.ok) == (1, 1)


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A disk that fails is told of in a line, and is no fault of batchrun."""
    run_dir = RunDir(str(tmp_path))
    run_dir.journal(0).mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"journal-00000\.jsonl: .*; check the disk"):
        read_progress(run_dir)
