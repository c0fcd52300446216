"""The types of JSONL columns: kept where all values share one, JSON text where they don't."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.rows.columns import ColumnTypes, build

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
    "list of int, then of float": ([[[1]], [[0.5]]], TEXT, ["[1]", "[0.5]"]),
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
