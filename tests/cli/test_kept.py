"""What a Parquet input's schema says of itself is in the results of a run, and any JSON makes results that all can read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq


def test_a_schemas_own_words_reach_the_results(start: Callable[..., Any], tmp_path: Path) -> None:
    """Features, comments, nullability and extension types of an input of two files, and a column of a result's name in
    other case."""
    features = {"info": {"features": {"prompt": {"dtype": "string", "_type": "Value"}, "ID": {"_type": "Value"}}}}
    fields = [
        pa.field("prompt", pa.string(), nullable=False, metadata={"comment": "what is asked"}),
        pa.field("ID", pa.uuid()),
    ]
    schema = pa.schema(fields, {"huggingface": json.dumps(features)})
    (tmp_path / "in").mkdir()
    for number in range(2):
        arrays = [pa.array([f"What is {number} + 1?"]), pa.array([bytes([number] * 16)], pa.uuid())]
        pq.write_table(pa.table(arrays, schema=schema), tmp_path / "in" / f"{number}.parquet")
    job = start()
    job.source = "in"
    assert job.run("--samples", "2") == 4
    found = pq.read_table(job.out / "results.parquet")
    assert list(json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]) == ["prompt", "input_ID"]
    prompt = found.schema.field("prompt")
    assert (prompt.metadata[b"comment"], prompt.nullable) == (b"what is asked", False)
    assert found.schema.field("input_ID").type == pa.uuid()
    assert [one["completion"] for one in found.to_pylist()] == ["1", "1", "2", "2"]


def test_rows_that_no_table_holds_have_results_that_everyone_reads(start: Callable[..., Any], tmp_path: Path) -> None:
    """Trees, lists and maps that are deeper and wider than readers go: asked once, sealed, and read by all of them."""
    tree: Any = 1
    for level in range(120):
        tree = [tree] if level % 2 else {"a": tree}
    rows = [{"prompt": f"What is {n} + 1?", "map": {f"k{n}": n}, f"only{n}": n} for n in range(80)]
    rows[33]["tree"] = tree
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = start()
    assert job.run() == 80
    assert job.run() == 0
    path = job.out / "results.parquet"
    assert json.loads(pq.read_table(path)["tree"][33].as_py()) == tree
    assert pl.read_parquet(path)["completion"].to_list() == [str(n + 1) for n in range(80)]
    assert len(pd.read_parquet(path)) == len(duckdb.sql(f"SELECT * FROM '{path}'").fetchall()) == 80
