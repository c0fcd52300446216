"""The types of JSONL columns: kept where all values share one, JSON text where they don't."""

import io
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import hypothesis.strategies as st
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from batchrun.rows.columns import DEEPEST, JSON, MARK, REST, ColumnTypes, build

I64, F64, TEXT = pa.int64(), pa.float64(), pa.string()
CASES: dict[str, tuple[list[list[Any]], pa.DataType, list[Any]]] = {
    "text": ([["a", None, "b"]], TEXT, ["a", None, "b"]),
    "ints": ([[1, 2]], I64, [1, 2]),
    "floats": ([[1.5, 2.5]], F64, [1.5, 2.5]),
    "ints and floats": ([[1, 2.5]], F64, [1.0, 2.5]),
    "ints, then floats": ([[1], [2.5]], F64, [1.0, 2.5]),
    "bools": ([[True, False]], pa.bool_(), [True, False]),
    "nulls": ([[None], [None]], TEXT, [None, None]),
    "nulls, then ints": ([[None], [1]], I64, [None, 1]),
    "list": ([[["a"], []]], pa.list_(TEXT), [["a"], []]),
    "struct": ([[{"a": 1}]], pa.struct([("a", I64)]), [{"a": 1}]),
    "text and ints": ([["a", 1, None]], TEXT, ['"a"', "1", None]),
    "text, then ints": ([["a"], [1]], TEXT, ['"a"', "1"]),
    "bools and ints": ([[True, 1]], TEXT, ["true", "1"]),
    "mixed, then text": ([["a", 1], ["b"]], TEXT, ['"a"', "1", '"b"']),
    "ints beyond int64": ([[1, 2**63]], TEXT, ["1", str(2**63)]),
    "ints beyond int64 in a struct": ([[{"a": 2**63}]], TEXT, [f'{{"a":{2**63}}}']),
    "ints beyond a double and floats": ([[2**53 + 1, 0.5]], TEXT, [str(2**53 + 1), "0.5"]),
    "ints beyond a double, then floats": ([[2**53 + 1], [0.5]], TEXT, [str(2**53 + 1), "0.5"]),
    "empty struct": ([[{}]], TEXT, ["{}"]),
    "empty struct in a list": ([[[{}]]], TEXT, ["[{}]"]),
    "struct of int, then of float": ([[{"a": 2**53 + 1}], [{"a": 0.5}]], TEXT, [f'{{"a":{2**53 + 1}}}', '{"a":0.5}']),
    "list of int, then of float": ([[[1]], [[0.5]]], pa.list_(F64), [[1.0], [0.5]]),
    "list of int and float": ([[[1, 0.5]]], pa.list_(F64), [[1.0, 0.5]]),
    "list of bool, then of float": ([[[True]], [[0.5]]], TEXT, ["[true]", "[0.5]"]),
    "struct of bool, then of float": ([[{"a": True}], [{"a": 0.5}]], TEXT, ['{"a":true}', '{"a":0.5}']),
    "struct of bool and float": ([[{"a": True}, {"a": 0.5}]], TEXT, ['{"a":true}', '{"a":0.5}']),
    "lists of nothing": ([[[]], [[None]]], pa.list_(TEXT), [[], [None]]),
    "struct of null": ([[{"a": None}], [None]], pa.struct([("a", TEXT)]), [{"a": None}, None]),
    "a field without a name": ([[{"": 1}]], TEXT, ['{"":1}']),
    "struct, then another": (
        [[{"a": 1}], [{"b": "x"}]],
        pa.struct([("a", I64), ("b", TEXT)]),
        [{"a": 1, "b": None}, {"a": None, "b": "x"}],
    ),
    "list, then struct": ([[[1]], [{"a": 1}]], TEXT, ["[1]", '{"a":1}']),
    "mixed list": ([[[1, "a"]]], TEXT, ['[1,"a"]']),
}


@pytest.mark.parametrize(("shards", "kind", "values"), CASES.values(), ids=CASES)
def test_column(shards: list[list[Any]], kind: pa.DataType, values: list[Any]) -> None:
    """A column's type is the one all values of all shards share; nothing is lost, bent or unwritable."""
    types = ColumnTypes()
    records = [[{"c": value} for value in shard] for shard in shards]
    for shard in records:
        types.see(shard)
    schema = types.schema()
    table = pa.concat_tables([build(shard, schema) for shard in records])
    assert table.schema.field("c").type == kind
    assert table["c"].to_pylist() == values
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert pq.read_table(sink)["c"].to_pylist() == values


def test_columns_in_order_of_appearance() -> None:
    """Columns stand in the order in which they first appear; a row without one has null there."""
    types = ColumnTypes()
    records = [{"b": 1}, {"a": "x", "b": 2}]
    types.see(records)
    assert build(records, types.schema()).to_pylist() == [{"b": 1, "a": None}, {"b": 2, "a": "x"}]


def table_of(shards: list[list[dict[str, Any]]]) -> Any:
    """The column types of all shards, and their tables one after another."""
    types = ColumnTypes()
    for shard in shards:
        types.see(shard)
    schema = types.schema()
    return pa.concat_tables([build(shard, schema) for shard in shards])


def marks(table: Any) -> dict[str, bytes | None]:
    return {field.name: (field.metadata or {}).get(MARK) for field in table.schema}


def tower(kinds: list[type], value: Any) -> Any:
    for kind in kinds:
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kinds", [[dict], [list], [dict, list]], ids=["structs", "lists", "both"])
@pytest.mark.parametrize("levels", [1, DEEPEST, DEEPEST + 1, 33, 50, 100, 300])
def test_what_is_deep_is_text(kinds: list[type], levels: int) -> None:
    """A value is a table as deep as every reader can go, and more than that, and JSON text beyond: whole either way."""
    value = tower(list(itertools.islice(itertools.cycle(kinds), levels)), 1)
    table = table_of([[{"c": value}], [{"c": None}]])
    assert (marks(table)["c"] == JSON) == (levels > DEEPEST)
    [kept, nothing] = table["c"].to_pylist()
    assert (json.loads(kept) if levels > DEEPEST else kept, nothing) == (value, None)


def test_ever_new_keys_are_text() -> None:
    """A map in disguise is not made a struct of all its keys, also where they come one at a time or in structs of structs."""
    maps = [{"c": [{f"token {row} {place}": 0.5 for place in range(5)}]} for row in range(50)]
    halves = [{"d": {f"{row % 20}": {f"{row // 20}": 1}}} for row in range(400)]
    table = table_of([maps, halves])
    assert marks(table) == {"c": JSON, "d": JSON}
    assert [json.loads(text) for text in table["c"].to_pylist()[:50]] == [one["c"] for one in maps]


def test_a_struct_that_is_mostly_empty_stays_one_where_it_costs_little() -> None:
    """Rare fields are usual; only a column whose empty cells would fill the memory becomes text."""
    rare = [{"c": {"always": row, f"rare{row % 40}": 1}} for row in range(400)]
    assert marks(table_of([rare])) == {"c": None}
    many = [{"d": [{f"rare{place % 60}": 1} for place in range(200)]} for _ in range(10)]
    assert marks(table_of([many])) == {"d": JSON}


def test_ever_new_columns_are_kept_in_one() -> None:
    """Columns that hardly any row has stand together in one of JSON objects; the others keep their own."""
    records = [{"prompt": "p", **{f"c{row}_{place}": place for place in range(20)}} for row in range(200)]
    table = table_of([records[:100], records[100:]])
    assert table.num_columns < 1100
    assert marks(table)["prompt"] is None
    assert marks(table)["other_columns"] == REST
    for row, record in zip(table.to_pylist(), records, strict=True):
        rest = json.loads(row.pop("other_columns") or "{}")
        assert {name: value for name, value in row.items() if value is not None} | rest == record


def test_only_so_many_names_are_told_apart() -> None:
    """Memory does not grow with ever new names: those that come after very many are rare ones, and are kept."""
    shards = [[{f"c{shard}_{place}": 1 for place in range(6000)}] for shard in range(4)]
    types = ColumnTypes()
    for shard in shards:
        types.see(shard)
    last = build([{"c3_5999": 1}], types.schema()).to_pylist()[0]
    assert json.loads(last["other_columns"]) == {"c3_5999": 1}


def test_many_columns_that_every_row_has_are_columns() -> None:
    """What is dense is a table, however wide."""
    assert table_of([[{f"c{place}": place for place in range(3000)}] * 2]).num_columns == 3000


NAMES = st.one_of(st.sampled_from(["a", "A", "b", "", "a.b", "list", "x y", "ä"]), st.text(max_size=3))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**53 + 1, 2**63, -(2**63), 2**80]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
DUCK = duckdb.connect()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TOWERS = st.builds(tower, st.lists(st.sampled_from([list, dict]), max_size=60), VALUES)
RECORDS = st.lists(st.dictionaries(NAMES, VALUES | TOWERS, max_size=4), min_size=1, max_size=4)


def is_kept(kept: Any, value: Any) -> bool:
    """Whether a typed value is the given one. A struct has all fields of its type, null where there was none."""
    if isinstance(value, dict):
        return isinstance(kept, dict) and all(is_kept(kept[name], value.get(name)) for name in {*kept, *value})
    if isinstance(value, list):
        return isinstance(kept, list) and len(kept) == len(value) and all(map(is_kept, kept, value))
    return kept == value and isinstance(kept, bool) == isinstance(value, bool)


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_any_json_makes_a_file_that_everyone_reads(shards: list[list[dict[str, Any]]]) -> None:
    """Whatever JSON comes in, the table is written, and pyarrow, pandas, polars and DuckDB read it; nothing is lost."""
    table = table_of(shards)
    records = [record for shard in shards for record in shard]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        pq.write_table(pa.table([*table.columns, range(len(records))], [*table.column_names, "row number"]), path)
        found = pq.read_table(path).to_pylist()
        assert len(pd.read_parquet(path)) == len(records)
        assert pl.read_parquet(path).height == len(records)
        assert len(DUCK.sql(f"SELECT * FROM '{path}'").fetchall()) == len(records)
    for row, record in zip(found, records, strict=True):
        for name, mark in marks(table).items():
            value = record.get(name)
            assert json.loads(row[name] or "null") == value if mark == JSON else is_kept(row[name], value)
