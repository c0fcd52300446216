"""Parquet: what nobody reads passes through, what is read is plain, and files whose types differ get one type."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.records import Row, Shard
from batchrun.rows import parquet
from batchrun.rows.source import Source
from batchrun.sections import Input


def no_fault(row: Row) -> str | None:
    return None


def shards(path: Path, size: int = 100, reads: frozenset[str] | None = None) -> list[Shard]:
    reader = Source(Input(path=str(path)), size, reads)
    return [reader.read(info) for info in reader.scan(no_fault).shards]


def rows(path: Path, reads: frozenset[str] | None = None) -> list[dict[str, Any]]:
    return [row.data for shard in shards(path, 100, reads) for row in shard.rows]


def table(path: Path) -> Any:
    return pa.concat_tables([shard.table for shard in shards(path)])


UNEQUAL: dict[str, tuple[list[Any], list[Any], pa.DataType]] = {
    "int64 and double": ([pa.array([1])], [pa.array([0.5])], pa.float64()),
    "uint64 and int64": ([pa.array([2**64 - 1], pa.uint64())], [pa.array([-1])], pa.decimal128(20)),
    "us and ns": ([pa.array([1], pa.timestamp("us"))], [pa.array([1], pa.timestamp("ns"))], pa.timestamp("ns")),
    "dictionary and text": ([pa.array(["a"]).dictionary_encode()], [pa.array(["b"])], pa.string()),
    "null and struct": ([pa.array([None])], [pa.array([{"a": 1}])], pa.struct([("a", pa.int64())])),
    "structs": (
        [pa.array([{"a": 1}])],
        [pa.array([{"b": ["x"]}])],
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
    ),
}


@pytest.mark.parametrize(("one", "other", "kind"), UNEQUAL.values(), ids=UNEQUAL)
def test_unequal_files(tmp_path: Path, one: list[Any], other: list[Any], kind: pa.DataType) -> None:
    """A column gets the type that holds the values of all files; a template reads each value as its file has it."""
    pq.write_table(pa.table({"x": one[0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [1], "x": other[0]}), tmp_path / "b.parquet")
    made = table(tmp_path)
    assert made.schema.field("x").type == kind
    assert made.schema.names == ["x", "y"]
    assert made["y"].to_pylist() == [None, 1]
    if not pa.types.is_timestamp(kind):
        assert [row["x"] for row in rows(tmp_path)] == [one[0].to_pylist()[0], other[0].to_pylist()[0]]


def test_many_small_dictionaries(tmp_path: Path) -> None:
    """Dictionaries of 8 bits, each full, become one that holds them all."""
    for number in range(3):
        values = pa.array([f"{number}-{one}" for one in range(100)])
        kept = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), values)
        pq.write_table(pa.table({"x": kept}), tmp_path / f"{number}.parquet")
    assert table(tmp_path)["x"].to_pylist() == [f"{number}-{one}" for number in range(3) for one in range(100)]


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "types": (
        pa.array([1]),
        pa.array(["a"]),
        r"b\.parquet: column `x` is string here and int64 in the files before it",
    ),
    "a value": (
        pa.array([2**53 + 1]),
        pa.array([0.5]),
        r"a\.parquet: column `x` is int64 here and double with the other",
    ),
    "a time": (pa.array([2**60], pa.timestamp("us")), pa.array([1], pa.timestamp("ns")), r"a\.parquet: column `x`"),
    "within": (pa.array([{"a": 1}]), pa.array([{"a": "b"}]), r"b\.parquet: column `x`"),
}


@pytest.mark.parametrize(("one", "other", "says"), REFUSED.values(), ids=REFUSED)
def test_files_that_do_not_fit(tmp_path: Path, one: Any, other: Any, says: str) -> None:
    """Where no type holds all values, file and column are named before anything is sent."""
    pq.write_table(pa.table({"x": one}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": other}), tmp_path / "b.parquet")
    with pytest.raises(JobError, match=says):
        shards(tmp_path)


def test_a_column_that_nobody_reads_is_never_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the results as it is, though no template could read it."""
    fields = [pa.field("a", pa.int64()), pa.field("a", pa.string())]
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array(["x"])], fields=fields)
    pq.write_table(pa.table({"prompt": ["p"], "odd": twice}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "to_python", lambda array, real=parquet.to_python: real(_not_odd(array)))
    (shard,) = shards(tmp_path, reads=frozenset({"prompt"}))
    assert [row.data for row in shard.rows] == [{"prompt": "p"}]
    assert shard.rows[0].names == ("prompt", "odd")
    assert shard.table.column("odd").combine_chunks().flatten()[1].to_pylist() == ["x"]
    monkeypatch.undo()
    with pytest.raises(JobError, match=r"a\.parquet: column `odd`: a struct in it has two fields named `a`"):
        shards(tmp_path)


def _not_odd(array: Any) -> Any:
    assert not pa.types.is_struct(array.type)
    return array


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """They pass through where nobody reads them, and are refused where somebody does."""
    made = pa.Table.from_arrays([pa.array(["p"]), pa.array([1]), pa.array([2])], names=["prompt", "x", "x"])
    pq.write_table(made, tmp_path / "a.parquet")
    (shard,) = shards(tmp_path, reads=frozenset({"prompt"}))
    assert [column.to_pylist() for column in shard.table.columns] == [["p"], [1], [2]]
    with pytest.raises(JobError, match="two columns are named `x`"):
        shards(tmp_path, reads=frozenset({"x"}))


def test_int96(tmp_path: Path) -> None:
    """The old type of Spark and Impala is read in any year."""
    moments = [datetime.datetime(1, 1, 1), datetime.datetime(2024, 5, 1, 12), datetime.datetime(9999, 12, 31), None]
    kept = pa.table({"t": pa.array(moments, pa.timestamp("us"))})
    pq.write_table(kept, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert [row["t"] for row in rows(tmp_path)] == [
        "0001-01-01 00:00:00",
        "2024-05-01 12:00:00",
        "9999-12-31 00:00:00",
        None,
    ]


def test_what_a_schema_says_is_kept(tmp_path: Path) -> None:
    """Metadata of the schema and of fields, nullability and extension types come through."""
    schema = pa.schema(
        [pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"}), pa.field("u", pa.uuid())],
        metadata={"who": "me"},
    )
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)], pa.binary(16)))
    pq.write_table(pa.Table.from_arrays([pa.array([1]), uuids], schema=schema), tmp_path / "a.parquet")
    kept = Source(Input(path=str(tmp_path)), 5).scan(no_fault).arrow_schema()
    assert kept.metadata == {b"who": b"me"}
    assert kept.field("a").metadata == {b"unit": b"m"}
    assert not kept.field("a").nullable
    assert kept.field("u").type == pa.uuid()
    assert rows(tmp_path) == [{"a": 1, "u": "00000000-0000-0000-0000-000000000000"}]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_change_no_row(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rows are batched, grouped and cut, each is there once, with its own columns."""
    for name, count in (("a", 150), ("b", 1), ("c", 70)):
        values = [f"{name}{number}" for number in range(count)]
        pq.write_table(pa.table({"id": values}), tmp_path / f"{name}.parquet", row_group_size=40)
    expected = [f"{name}{n}" for name, count in (("a", 150), ("b", 1), ("c", 70)) for n in range(count)]
    found = shards(tmp_path, size)
    assert [row.id for shard in found for row in shard.rows] == expected
    assert [value for shard in found for value in shard.table["id"].to_pylist()] == expected
    assert all(len(shard.table) == len(shard.rows) <= size for shard in found)


def test_large_rows_come_in_small_batches(tmp_path: Path) -> None:
    """A shard of large rows has few of them, whatever its row group has."""
    pq.write_table(pa.table({"x": [str(number) * (1 << 20) for number in range(10)] * 5}), tmp_path / "a.parquet")
    assert max(shard.table.nbytes for shard in shards(tmp_path, 1000)) < 20 << 20
