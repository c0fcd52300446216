"""How rows are cut into shards: by what they take in memory, whatever their text is long."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.rows.source import SHARD_BYTES, Source
from batchrun.sections import Input

ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "word " * 4000},
    "objects": {"items": [{"a": 1} for _ in range(1000)]},
    "lists": {"items": [[0.5] for _ in range(2000)]},
    "numbers": {"items": [place + 0.5 for place in range(3000)]},
    "maps": {"maps": [{f"key{row}": row} for row in range(1000)]},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_shard_takes_about_as_much_memory_whatever_is_in_it(tmp_path: Path, row: dict[str, Any]) -> None:
    """Small objects take ten times their text: shards of them have fewer rows, so that none takes much more memory."""
    path = tmp_path / "in.jsonl"
    path.write_bytes((json.dumps(row).encode() + b"\n") * 150)
    source = Source(Input(path=str(path)), 2000)
    first = source.scan(lambda _row: None).shards[0]
    tracemalloc.start()
    shard = source.read(first)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(shard.rows) == first.rows
    assert taken < 2 * SHARD_BYTES


@pytest.mark.parametrize("copies", [1, 10])
def test_a_row_of_many_requests_counts_for_each(tmp_path: Path, copies: int) -> None:
    """What is held of a row, and written of it, is held and written for each of its requests."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"prompt": [f"{row:0100000d}" for row in range(200)]}), path)
    shards = Source(Input(path=str(path)), 2000, None, copies).scan(lambda _row: None).shards
    assert max(info.rows for info in shards) * copies * 100_000 < SHARD_BYTES * 1.5
