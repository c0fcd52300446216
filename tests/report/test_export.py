"""Copies of results in other formats: what a column holds, said in the words of that format and not bent."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.ledger import parts
from batchrun.ledger.layout import Layout
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result
from batchrun.report.export import export
from batchrun.rows.columns import ColumnTypes, build

DAY = 86_400 * 10**6


def copies(folder: Path, inputs: Any) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The rows of results over an input table, from JSONL and from CSV."""
    part = Stored(LocalStore(folder), "part-00000.parquet")
    count = inputs.num_rows
    found = [
        Result(row, f"r{row}", "default", 0, "h", "ok", completion="x", started_at=1_700_000_000_000_001)
        for row in range(count)
    ]
    parts.write_part(part, Layout(inputs.schema), inputs, 1, found)
    for ending in ("jsonl", "csv"):
        assert export([part], str(folder / f"copy.{ending}")) == count
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (folder / "copy.jsonl").read_text().splitlines()]
    with (folder / "copy.csv").open(newline="") as file:
        return lines, list(csv.DictReader(file))


def from_json(records: list[dict[str, Any]]) -> Any:
    types = ColumnTypes()
    types.see(records)
    return build(records, types.schema())


def test_a_mixed_columns_values_are_what_they_were(tmp_path: Path) -> None:
    """A column of JSON text is JSON in a copy: not a string of it. A string in it is a cell of CSV as it is."""
    values = [1, "x", None, {"a": [1, "y"]}, True, "1"]
    lines, cells = copies(tmp_path, from_json([{"label": value} for value in values]))
    assert [line["label"] for line in lines] == values
    assert [cell["label"] for cell in cells] == ["1", "x", "", '{"a":[1,"y"]}', "true", "1"]


def test_rare_columns_are_an_object(tmp_path: Path) -> None:
    """The column of all rare columns is an object of them."""
    records = [{f"c{row}_{place}": place for place in range(30)} for row in range(60)]
    lines, _cells = copies(tmp_path, from_json(records))
    assert lines[-1]["other_columns"] == records[-1]


ARRAYS: dict[str, tuple[Any, Any, str]] = {
    "infinity": (pa.array([float("inf")]), "Infinity", "Infinity"),
    "less than all": (pa.array([float("-inf")], pa.float32()), "-Infinity", "-Infinity"),
    "infinity inside": (pa.array([[{"a": float("inf")}]]), [{"a": "Infinity"}], '[{"a":"Infinity"}]'),
    "no number": (pa.array([float("nan")]), None, ""),
    "a fraction": (pa.array([0.1]), 0.1, "0.1"),
    "a decimal": (pa.array([Decimal("1.10")]), 1.1, "1.10"),
    "bytes": (pa.array([b"\xff\x00"]), "/wA=", "/wA="),
    "an instant": (
        pa.array([1], pa.timestamp("us", "UTC")),
        "1970-01-01T00:00:00.000001Z",
        "1970-01-01T00:00:00.000001Z",
    ),
    "nanoseconds": (
        pa.array([1], pa.timestamp("ns")),
        "1970-01-01T00:00:00.000000001",
        "1970-01-01T00:00:00.000000001",
    ),
    "before Christ": (pa.array([-800_000], pa.date32()), "-0221-09-04", "-0221-09-04"),
    "a far instant": (
        pa.array([3_000_000 * DAY], pa.timestamp("us")),
        "+10183-09-21T00:00:00",
        "+10183-09-21T00:00:00",
    ),
    "a duration": (pa.array([1_500], pa.duration("ms")), "0:00:01.500000", "0:00:01.500000"),
    "a category": (pa.array(["a"]).dictionary_encode(), "a", "a"),
    "a map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), {"k": 1}, '{"k":1}'),
    "a list": (pa.array([["a", None]]), ["a", None], '["a",null]'),
    "quotes": (pa.array(['"x"']), '"x"', '"x"'),
}


@pytest.mark.parametrize(("array", "in_json", "in_csv"), ARRAYS.values(), ids=ARRAYS)
def test_every_type_has_its_words(tmp_path: Path, array: Any, in_json: Any, in_csv: str) -> None:
    """Whatever a Parquet input held: its value, in valid JSON and in CSV, and null where there was none."""
    inputs = pa.table({"c": pa.concat_arrays([array, pa.nulls(1, array.type)])})
    lines, cells = copies(tmp_path, inputs)
    assert [line["c"] for line in lines] == [in_json, None]
    assert [cell["c"] for cell in cells] == [in_csv, ""]
    assert lines[0]["started_at"] == cells[0]["started_at"] == "2023-11-14T22:13:20.000001Z"


def test_a_parquet_copy_keeps_what_the_schema_says(tmp_path: Path) -> None:
    """Metadata of the input goes along into a copy, ours does not."""
    inputs = pa.table({"a": [1]}).replace_schema_metadata({"mine": "kept"})
    copies(tmp_path, inputs)
    export([Stored(LocalStore(tmp_path), "part-00000.parquet")], str(tmp_path / "copy.parquet"))
    assert pq.read_schema(tmp_path / "copy.parquet").metadata == {b"mine": b"kept"}
