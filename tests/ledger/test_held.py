"""What is held of a run that goes on meanwhile is one cut: each shard is in it once, wherever it stood."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from batchrun.ledger import parts
from batchrun.ledger.held import Held
from batchrun.ledger.journal import Journal
from batchrun.ledger.layout import Layout
from batchrun.ledger.lines import Line
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Result

LAYOUT = Layout(pa.schema([("text", pa.string())]))


def result(row: int) -> Result:
    return Result(row, str(row), "default", 0, "h", "ok", completion="x")


class Moving(RunDir):
    """A run of three shards of a row each, in which `then` happens just before the n-th listing."""

    def __init__(self, path: Path, at: int, then: Callable[["Moving"], None]) -> None:
        super().__init__(str(path))
        self._at, self._then, self._listings = at, then, 0
        self.state.mkdir(parents=True)
        for number in range(3):
            journal = Journal(self.journal(number), "s")
            journal.append(Line(result=result(number)))
            journal.close()
        self.seal(0)

    def seal(self, number: int) -> None:
        inputs = pa.table({"text": [f"t{number}"]}, schema=LAYOUT.inputs)
        parts.write_part(self.part(number), LAYOUT, inputs, 1, [result(number)])
        self.journal(number).unlink()

    def merge(self) -> None:
        for number in (1, 2):
            self.seal(number)
        parts.merge([self.part(number) for number in range(3)], self.results, LAYOUT)
        self.drop_parts()

    def _tick(self) -> None:
        self._listings += 1
        if self._listings == self._at:
            self._then(self)

    def sealed(self) -> set[int]:
        self._tick()
        return super().sealed()

    def open_journals(self) -> set[int]:
        found = super().open_journals()
        self._tick()
        return found


@pytest.mark.parametrize("then", [lambda run: run.seal(1), Moving.merge], ids=["sealed", "merged"])
@pytest.mark.parametrize("at", range(1, 6))
def test_no_shard_is_lost_or_doubled(tmp_path: Path, at: int, then: Callable[[Moving], None]) -> None:
    """Whenever a shard is sealed, or all are merged, while files are listed and read, each row is there once."""
    held = Held(Moving(tmp_path / "out", at, then), opens=True)
    rows = [one.row for file in held.results for one in parts.read_results(file)]
    rows += [one.row for _number, results in held.open_results() for one in results]
    assert sorted(rows) == [0, 1, 2]
