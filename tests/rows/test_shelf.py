"""Tables that wait on disk until they are needed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchrun.rows.shelf import Shelved

TABLES = {
    "small": pa.table({"a": ["x", None]}),
    "large": pa.table({"a": ["x" * 1000] * 500, "b": list(range(500))}),
    "metadata and odd types": pa.table(
        {
            "a": pa.array(["é" * 500] * 500).dictionary_encode(),
            "b": pa.array([{"c": [1, None]}] * 500),
            "n": pa.nulls(500),
        }
    ).replace_schema_metadata({"huggingface": "{}"}),
    "no columns": pa.table({}),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_comes_back_as_it_was(table: Any, tmp_path: Path) -> None:
    """As often as it is asked for, and no file has a name that could be left behind."""
    shelved = Shelved(table, tmp_path)
    for _ in range(2):
        back = shelved.table()
        assert back.equals(table)
        assert back.schema.equals(table.schema, check_metadata=True)
    assert list(tmp_path.iterdir()) == []


def test_a_large_table_takes_no_memory(tmp_path: Path) -> None:
    """What waits is on disk alone."""
    before = pa.total_allocated_bytes()
    shelved = Shelved(pa.table({"a": ["x" * 1000] * 5000}), tmp_path)
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert shelved.table().num_rows == 5000


def test_without_a_place_on_disk_it_stays_in_memory(tmp_path: Path) -> None:
    """A folder that can't be written holds nothing up."""
    table = TABLES["large"]
    assert Shelved(table, tmp_path / "none").table().equals(table)
