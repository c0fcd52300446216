"""What other libraries keep in an input's schema is kept in the results, under the names that columns have there."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.ledger import parts
from batchrun.ledger.layout import RESULT_SCHEMA, Layout
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result

COUNT = 3


def results_over(folder: Path, inputs: Any) -> Path:
    """A file of results over an input table, by way of a part."""
    store = LocalStore(folder)
    part, merged = Stored(store, "part-00000.parquet"), Stored(store, "results.parquet")
    found = [Result(row, f"r{row}", "default", 0, "h", "ok", completion="x") for row in range(COUNT)]
    layout = Layout(inputs.schema)
    parts.write_part(part, layout, inputs, 1, found)
    parts.merge([part], merged, layout)
    return folder / "results.parquet"


def said(path: Path, key: bytes) -> Any:
    return json.loads(pq.read_schema(path).metadata[key])


def test_pandas_index_and_dtypes_come_back(tmp_path: Path) -> None:
    """pandas reads its index and its own dtypes again, also of a column that is stored under another name."""
    frame = pd.DataFrame(
        {"id": pd.array([1, None, 3], "Int64"), "kind": pd.Categorical(["a", "b", "a"])},
        index=pd.Index(["x", "y", "z"], name="key"),
    )
    found = pd.read_parquet(results_over(tmp_path, pa.Table.from_pandas(frame)))
    assert list(found.index) == ["x", "y", "z"]
    assert found["input_id"].dtype == "Int64"
    assert found["kind"].dtype == "category"
    assert list(found["id"]) == ["r0", "r1", "r2"]


def test_an_index_of_a_results_name_follows_its_column(tmp_path: Path) -> None:
    """An index that collides with a result's column is the index under its new name."""
    frame = pd.DataFrame({"text": ["a", "b", "c"]}, index=pd.Index([7, 8, 9], name="row"))
    found = pd.read_parquet(results_over(tmp_path, pa.Table.from_pandas(frame)))
    assert (found.index.name, list(found.index), list(found["row"])) == ("input_row", [7, 8, 9], [0, 1, 2])


def test_polars_enums_come_back(tmp_path: Path) -> None:
    """An Enum, with its order, and a categorical are what they were."""
    source = tmp_path / "in.parquet"
    kinds = pl.Enum(["small", "large"])
    frame = pl.DataFrame({"size": ["large", "small", None], "tag": ["p", "q", "p"]})
    frame.with_columns(pl.col("size").cast(kinds), pl.col("tag").cast(pl.Categorical)).write_parquet(source)
    found = pl.read_parquet(results_over(tmp_path, pq.read_table(source)))
    assert found.schema["size"] == kinds
    assert found.schema["tag"] == pl.Categorical
    assert found["size"].to_list() == ["large", "small", None]


def test_hugging_faces_features_follow_their_columns(tmp_path: Path) -> None:
    """A feature of a column that got a prefix stands under the name that the column has now."""
    label = {"names": ["no", "yes"], "_type": "ClassLabel"}
    features = {"label": label, "status": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"label": [0, 1, 0], "status": ["a", "b", "c"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    found = said(results_over(tmp_path, table), b"huggingface")["info"]["features"]
    assert found == {"label": label, "input_status": {"dtype": "string", "_type": "Value"}}


def test_geometry_follows_its_column(tmp_path: Path) -> None:
    """GeoParquet names its primary column."""
    table = pa.table({"row": [b"", b"", b""]})
    geo = {"version": "1.1.0", "primary_column": "row", "columns": {"row": {"encoding": "WKB"}}}
    found = said(results_over(tmp_path, table.replace_schema_metadata({"geo": json.dumps(geo)})), b"geo")
    assert (found["primary_column"], list(found["columns"])) == ("input_row", ["input_row"])


def test_sparks_schema_has_the_results_too(tmp_path: Path) -> None:
    """Spark believes this key more than the file: its comments are kept, and no result is hidden."""
    key = "org.apache.spark.sql.parquet.row.metadata"
    field = {"name": "id", "type": "string", "nullable": True, "metadata": {"comment": "the key"}}
    schema = json.dumps({"type": "struct", "fields": [field]})
    table = pa.table({"id": ["a", "b", "c"]}).replace_schema_metadata({key: schema})
    found = said(results_over(tmp_path, table), key.encode())["fields"]
    assert [one["name"] for one in found] == ["input_id", *RESULT_SCHEMA.names]
    assert found[0]["metadata"] == {"comment": "the key"}


@pytest.mark.parametrize("key", ["parquet.avro.schema", "iceberg.schema"])
def test_what_would_hide_the_results_is_left_out(tmp_path: Path, key: str) -> None:
    """A whole schema that a reader takes for the file's own can't stand over other columns."""
    table = pa.table({"a": [1, 2, 3]}).replace_schema_metadata({key: "{}", "mine": "kept"})
    found = pq.read_schema(results_over(tmp_path, table)).metadata
    assert key.encode() not in found
    assert found[b"mine"] == b"kept"


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"columns": 3}', b'"x"'])
def test_metadata_that_nobody_understands_is_no_fault(tmp_path: Path, value: bytes) -> None:
    """Broken metadata of an input breaks nothing; keys that only we write are no input's."""
    keys = ("pandas", "geo", "huggingface", "org.apache.spark.sql.parquet.row.metadata", "batchrun.tally")
    table = pa.table({"a": [1, 2, 3]}).replace_schema_metadata(dict.fromkeys(keys, value))
    path = results_over(tmp_path, table)
    assert pd.read_parquet(path)["a"].to_list() == [1, 2, 3]
    assert parts.read_tally(Stored(LocalStore(tmp_path), "results.parquet")).ok == COUNT


def test_fields_keep_what_is_said_of_them(tmp_path: Path) -> None:
    """A field's comment, that it may not be null, and its extension type are the column's still."""
    fields = [
        pa.field("a", pa.int64(), nullable=False, metadata={"comment": "of the column"}),
        pa.field("b", pa.uuid()),
        pa.field("c", pa.list_(pa.field("inner", pa.int8(), metadata={"comment": "of the items"}))),
    ]
    arrays = [pa.array([1, 2, 3]), pa.array([b"0" * 16] * 3, pa.uuid()), pa.array([[1], [], None], fields[2].type)]
    found = pq.read_schema(results_over(tmp_path, pa.table(arrays, schema=pa.schema(fields))))
    assert not found.field("a").nullable
    assert found.field("a").metadata[b"comment"] == b"of the column"
    assert found.field("b").type == pa.uuid()
    assert found.field("c").type.value_field.metadata[b"comment"] == b"of the items"
