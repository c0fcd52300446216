"""Copies of some of the results: those that a condition holds for, some of their columns, for spreadsheets too."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.report.chosen import Chosen
from batchrun.report.export import write

TABLE = pa.table(
    {
        "text": ["=1+1", "-2", " @x", "plain", "ä"],
        "n": [-1, 2, None, 4, 5],
        "row": [0, 1, 2, 3, 4],
        "status": ["ok", "ok", "failed", "ok", "failed"],
    }
)


def copied(chosen: Chosen, target: Path, **more: Any) -> int:
    halves = [TABLE.slice(0, 2), TABLE.slice(2)]
    return write(chosen.schema(TABLE.schema), chosen.of(halves), str(target), **more)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("status = 'ok'", [0, 1, 3]),
        ("n > 1 and status != 'failed'", [1, 3]),
        ("n is null", [2]),
        ("row in [4, 0]", [0, 4]),
        ("false", []),
        (None, [0, 1, 2, 3, 4]),
    ],
)
def test_a_condition_chooses(tmp_path: Path, where: str | None, rows: list[int]) -> None:
    """Results that it holds for, in their order; a copy of none has its columns all the same."""
    assert copied(Chosen(where, ["row"]), tmp_path / "x.parquet") == len(rows)
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == {"row": rows}


def test_columns_are_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    """Named twice they are there once; a condition may read others."""
    copied(Chosen("row = 3", ["status", "n", "status"]), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "status,n\nok,4\n"


@pytest.mark.parametrize(
    ("where", "columns", "says"),
    [
        (None, ["stats"], "--columns: the results have no column `stats`; did you mean `status`?"),
        ("stats = 'ok'", None, "--where: the results have no column `stats`; did you mean `status`?"),
        ("row =", None, "no condition"),
    ],
)
def test_what_there_is_not_is_named(where: str | None, columns: list[str] | None, says: str) -> None:
    """With the nearest column, before anything is written."""
    with pytest.raises(JobError, match=".*".join(says.split("; "))):
        Chosen(where, columns).schema(TABLE.schema)


def test_a_spreadsheet_computes_nothing(tmp_path: Path) -> None:
    """Texts that begin like formulas get an apostrophe, headers too; numbers stay numbers; the mark says UTF-8."""
    copied(Chosen(), tmp_path / "x.csv", spreadsheet=True)
    assert (tmp_path / "x.csv").read_bytes().startswith(b"\xef\xbb\xbftext")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'-2", "' @x", "plain", "ä"]
    assert [row[1] for row in rows] == ["-1", "2", "", "4", "5"]
    with pytest.raises(JobError, match=r"end the name in \.csv"):
        copied(Chosen(), tmp_path / "x.parquet", spreadsheet=True)
