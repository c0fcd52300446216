"""CSV and TSV: what a cell, a header and a fault are (contract.md §4)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import JobError
from batchrun.records import Row
from batchrun.rows.source import Source
from batchrun.sections import Input


def no_fault(row: Row) -> str | None:
    return None


def rows(path: Path, shard_rows: int = 100, **settings: Any) -> list[Row]:
    reader = Source(Input(path=str(path), **settings), shard_rows)
    return [row for info in reader.scan(no_fault).shards for row in reader.read(info).rows]


def written(tmp_path: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


CELLS = {
    "text as it was written": ("a,b\n007,1.0\n", [{"a": "007", "b": "1.0"}]),
    "an empty cell is null": ('a,b\n1,\n"",2\n', [{"a": "1", "b": None}, {"a": None, "b": "2"}]),
    "quotes, commas and line breaks": ('a,b\n"x, ""y""\nz",2\n', [{"a": 'x, "y"\nz', "b": "2"}]),
    "spaces are kept": ("a,b\n x , y\n", [{"a": " x ", "b": " y"}]),
    "one column": ("a\nx\n\ny\n", [{"a": "x"}, {"a": "y"}]),
    "header alone": ("a,b\n", []),
    "nothing": ("", []),
    "blank lines alone": ("\n \n", []),
    "a column without a name": (",b\n0,x\n", [{"column_1": "0", "b": "x"}]),
    "semicolons": ("a;b\n1,5;x\n", [{"a": "1,5", "b": "x"}]),
    "tabs": ("a\tb\n1\tx\n", [{"a": "1", "b": "x"}]),
    "a comma in a header's quotes": ('"a, b";c\n1;2\n', [{"a, b": "1", "c": "2"}]),
    "a header over two lines": ('"a\nb",c\n1,2\n', [{"a\nb": "1", "c": "2"}]),
}


@pytest.mark.parametrize(("text", "expected"), CELLS.values(), ids=CELLS)
def test_cells(tmp_path: Path, text: str, expected: list[dict[str, Any]]) -> None:
    """Every value is text, an empty cell is null, and quotes hold whatever stands in them."""
    for size in (1, 100):
        assert [row.data for row in rows(written(tmp_path, text), size)] == expected


def test_the_ending_tsv_means_tabs(tmp_path: Path) -> None:
    """A .tsv with one column has commas in its texts, not between them."""
    path = written(tmp_path, "text,more\nx,y\n", "a.tsv")
    assert [row.data for row in rows(path)] == [{"text,more": "x,y"}]


FAULTS = {
    "too few cells": (b"a,b\n1,2\n3\n4,5\n", 3, "1 cells, and the header names 2 columns"),
    "too many cells": (b"a,b\n1,2\n3,4,5\n6,7\n", 3, "3 cells"),
    "behind a cell of two lines": (b'a,b\n"1\n1",2\n3\n4,5\n', 4, "1 cells"),
    "a quote out of place": (b'a,b\n1,2\n"x"y,2\n4,5\n', 3, "not valid CSV"),
    "not UTF-8": (b"a,b\n1,2\ncaf\xe9,2\n4,5\n", 3, "not UTF-8"),
}


@pytest.mark.parametrize(("content", "line", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_row(tmp_path: Path, content: bytes, line: int, says: str) -> None:
    """A row that does not fit is named by the line that it starts on; the rows after it are what they are."""
    path = written(tmp_path, content)
    with pytest.raises(JobError) as caught:
        rows(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)
    found = rows(path, on_bad_row="fail")
    assert [row.error is None for row in found] == [True, False, True]
    assert next(iter(found[-1].data.values())) in ("4", "6")


WHOLE = {
    "two columns of one name": ("a,b,a\n1,2,3\n", "a.csv:1: the header names two columns `a`"),
    "a quote that is never closed": ('a,b\n1,2\n"x,3\n4,5\n', "a.csv:3: a quote"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    "a header that is not UTF-8": (b"caf\xe9,b\n1,2\n", "CSV UTF-8"),
}


@pytest.mark.parametrize("on_bad_row", ["stop", "fail"])
@pytest.mark.parametrize(("content", "says"), WHOLE.values(), ids=WHOLE)
def test_a_fault_of_the_file(tmp_path: Path, content: str | bytes, says: str, on_bad_row: str) -> None:
    """What leaves no row to be told from the next is said of the file, whatever becomes of bad rows."""
    with pytest.raises(JobError, match=r"a\.csv") as caught:
        rows(written(tmp_path, content), on_bad_row=on_bad_row)
    assert says in str(caught.value)


def test_files_with_other_columns(tmp_path: Path) -> None:
    """Each file has its own header; the results have the columns of all."""
    written(tmp_path, "id,text\n1,a\n", "a.csv")
    written(tmp_path, "text;id\nb;2\n", "b.csv")
    reader = Source(Input(path=str(tmp_path)), 10)
    inventory = reader.scan(no_fault)
    assert [row.data for row in reader.read(inventory.shards[0]).rows] == [
        {"id": "1", "text": "a"},
        {"text": "b", "id": "2"},
    ]
    assert inventory.arrow_schema().names == ["id", "text"]


def test_a_cell_of_a_megabyte(tmp_path: Path) -> None:
    """Cells may be as long as a prompt is."""
    path = written(tmp_path, f'a,b\n"{"x" * (1 << 20)}",2\n3,4\n')
    assert [len(row.data["a"]) for row in rows(path)] == [1 << 20, 1]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1, max_size=8)


@given(table=st.lists(st.tuples(TEXTS, TEXTS), max_size=6), shard_rows=st.integers(1, 3))
def test_what_the_csv_module_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]], shard_rows: int
) -> None:
    """Any table that Python writes comes back, cell by cell, however it is cut."""
    import csv

    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b"])
        writer.writerows(table)
    assert [tuple(row.data.values()) for row in rows(path, shard_rows)] == table
