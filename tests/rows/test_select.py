"""Which rows are asked: `where`, `limit` and `sample`, each row with its own number (contract.md §2)."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.rows.condition import Condition
from batchrun.rows.source import Source
from batchrun.sections import Input

ROW = {
    "tag": "hard",
    "n": 5,
    "f": 0.5,
    "z": None,
    "text": "a = b",
    "langs": ["en", "de"],
    "o": {"k": 1},
    "review text": "x",
}
HOLD = [
    'tag = "hard"',
    "tag == 'hard'",
    "tag <> 'easy'",
    "tag = 'hard' AND n > 3",
    "NOT n > 5 and f < 1",
    "n in [4, 5]",
    "n IN (4, 5)",
    "z IS NULL",
    "z is null and tag IS NOT NULL",
    "text = 'a = b'",
    "'en' in langs",
    "langs | length = 2",
    "o.k = 1",
    "`review text` = 'x'",
    "row['review text'] = 'x'",
    "tag | upper == 'HARD'",
    "(n + 1) * 2 >= 12 or false",
    "'}}' != tag",
]
FAIL = ["tag = 'easy'", "z > 3", "z = 'x'", "missing = 1", "not tag", "n < 5", "missing.deep > 1", "'x' in z"]


@pytest.mark.parametrize("text", HOLD)
def test_a_condition_holds(text: str) -> None:
    """SQL's and Python's spelling of comparisons, lists, nulls and odd names."""
    assert Condition(text).holds(ROW, "f:1")


@pytest.mark.parametrize("text", FAIL)
def test_a_condition_does_not_hold(text: str) -> None:
    """Null compares with nothing, and a column that a row lacks is null."""
    assert not Condition(text).holds(ROW, "f:1")


@pytest.mark.parametrize("text", ["", "tag =", "tag) }} {{ (n", "import os", "{{ tag }}", "n > > 3", "(" * 5000])
def test_what_is_no_condition(text: str) -> None:
    """It is refused with an example, before any row is read."""
    with pytest.raises(JobError, match=r"is no condition: .*write for example"):
        Condition(text)


def test_what_cannot_be_told_names_its_row() -> None:
    """Values that don't compare are a fault of the condition, told with the row."""
    with pytest.raises(JobError, match=r"^f:7: where 'tag > 3': "):
        Condition("tag > 3").holds(ROW, "f:7")


@pytest.mark.parametrize("text", ["tag.__class__", "''.__class__.__mro__ != 1", "().__class__.__bases__[0] != 0"])
def test_a_condition_reaches_no_python(text: str) -> None:
    """Attributes of Python's objects are out of reach."""
    assert not Condition(text).holds(ROW, "f:1")


ROWS = [{"n": n, "tag": "hard" if n % 3 == 0 else "easy"} for n in range(100)]


@pytest.fixture(params=["jsonl", "parquet"])
def path(request: Any, tmp_path: Path) -> str:
    place = tmp_path / f"rows.{request.param}"
    if request.param == "jsonl":
        place.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), place, row_group_size=13)
    return str(place)


def taken(path: str, shard_rows: int = 7, **settings: Any) -> list[int]:
    """The rows that are asked, read in order, then shard by shard from the last to the first, which must be the same."""
    source = Source(Input(path=path, **settings), shard_rows, frozenset({"n"}))
    inventory = source.scan(lambda _row: None)
    shards = [source.read(info) for info in inventory.shards]
    for info, shard in reversed(list(zip(inventory.shards, shards, strict=True))):
        again = Source(Input(path=path, **settings), shard_rows, frozenset({"n"})).read(info)
        assert again.rows == shard.rows
        assert shard.table is None or again.table.equals(shard.table)
    for shard in shards:
        numbers = [row.index for row in shard.rows]
        assert [row.data["n"] for row in shard.rows] == numbers
        assert [row.id for row in shard.rows] == list(map(str, numbers))
        assert shard.table is None or shard.table["n"].to_pylist() == numbers
    return [row.index for shard in shards for row in shard.rows]


def test_where_keeps_the_rows_numbers(path: str) -> None:
    """Rows that fit, in order, with the numbers and ids that they have in the whole input."""
    assert taken(path, where='tag = "hard"') == list(range(0, 100, 3))
    assert taken(path, where="n >= 98") == [98, 99]
    assert taken(path, where="n < 0") == []


def test_limit_comes_after_where(path: str) -> None:
    """The first N rows that fit."""
    assert taken(path, where='tag = "hard"', limit=20) == list(range(0, 60, 3))
    assert taken(path, where='tag = "hard"', limit=0) == []


def test_a_sample_is_the_same_again(path: str) -> None:
    """As many rows as are wanted, in input order, the same in every run; another seed chooses others; all where there are
    no more.
    """
    first = taken(path, sample=20)
    assert len(first) == 20
    assert first == sorted(set(first))
    assert taken(path, shard_rows=3, sample=20) == first
    assert taken(path, sample=20, seed=1) != first
    assert taken(path, sample=500) == list(range(100))
    assert set(taken(path, sample=10)) < set(first)
    assert max(first) > 50


def test_a_sample_of_what_fits(path: str) -> None:
    """`where` and `limit` come first."""
    some = taken(path, where='tag = "hard"', sample=5)
    assert len(some) == 5
    assert all(row % 3 == 0 for row in some)
    assert max(taken(path, limit=10, sample=5)) < 10


def test_a_column_that_no_row_has(path: str) -> None:
    """A misspelt column is refused with those that there are; one that only some rows have is not."""
    source = Source(Input(path=path, where="tga = 'hard'"), 7, frozenset({"n"}))
    with pytest.raises(JobError, match=r"no row has a column `tga`; columns: .*tag"):
        source.scan(lambda _row: None)
