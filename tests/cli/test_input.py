"""Input as people have it, through the whole program: tables, pipes, folders, images, and rows that no request fits."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Batchrun = Callable[..., subprocess.CompletedProcess[str]]
TABLE = b'review_id,text\n007,"good, ""very""\nnice"\n008,bad\n'


def results(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "results.parquet").to_pylist()
    return found


@pytest.fixture
def flags(endpoint: Any) -> tuple[str, ...]:
    return ("--base-url", endpoint.url, "--model", "m", "--progress", "none")


def test_a_table(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path) -> None:
    """`batchrun run reviews.csv` asks for each row, and keeps its cells as they were written."""
    (tmp_path / "reviews.csv").write_bytes(TABLE)
    made = batchrun("run", "reviews.csv", "--prompt", "Review: {{ text }}", *flags, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = results(tmp_path / "runs" / "reviews")
    assert [(row["review_id"], row["text"]) for row in found] == [("007", 'good, "very"\nnice'), ("008", "bad")]
    wrong = batchrun("plan", "reviews.csv", "--prompt", "{{ txt }}", *flags[:4], cwd=tmp_path)
    assert wrong.returncode == 2
    assert "reviews.csv:2: prompt.user: 'txt' is undefined; the row's columns are: review_id, text" in wrong.stderr


def test_standard_input(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path) -> None:
    """What comes through a pipe is resumed by its content: the same again has nothing to do, one row more asks one more."""
    said = []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for content in (TABLE, TABLE, TABLE + b"009,more\n"):
        threading.Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
        made = batchrun("run", "-", "--prompt", "{{ text }}", *flags, cwd=tmp_path, **{"in": str(pipe)})
        assert made.returncode == 0, made.stderr
        said.append(made.stderr)
    assert "nothing to do" in said[1]
    assert "2 answers are kept" in said[2]
    assert len(results(tmp_path / "runs" / "stdin")) == 3


def test_an_output_inside_the_input(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path) -> None:
    """The second call finds the same input as the first, and says what it left out."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(TABLE)
    call = ("run", "in", "-o", "in/out", "--prompt", "{{ text }}", *flags)
    assert batchrun(*call, cwd=tmp_path).returncode == 0
    again = batchrun(*call, cwd=tmp_path)
    assert again.returncode == 0
    assert "left out: out, a run directory" in again.stderr
    assert "nothing to do" in again.stderr


def test_a_name_that_is_no_text(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path) -> None:
    """A Latin-1 file name runs, resumes, and goes on from its run directory."""
    name = os.fsdecode(b"caf\xe9.csv")
    (tmp_path / name).write_bytes(TABLE)
    for source in (name, name, "runs/caf_"):
        made = batchrun("run", source, "--prompt", "{{ text }}", *flags, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    assert "nothing to do" in made.stderr


ODD = {
    "times": pa.array([2**63 - 1, None], pa.timestamp("us")),
    "nanoseconds": pa.array([1, None], pa.timestamp("ns")),
    "durations": pa.array([1, None], pa.duration("ns")),
    "years": pa.array([-1_000_000, 10_000_000], pa.date32()),
    "nulls within": pa.array([{"a": None}, None], pa.struct([("a", pa.null())])),
    "dictionary": pa.array(["a", None]).dictionary_encode(),
    "img": pa.array([{"bytes": b"\x89PNG\r\n\x1a\n", "path": "a.png"}, {"bytes": b"GIF89a", "path": None}]),
}


def test_parquet_of_every_kind(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path) -> None:
    """Columns that Python has no object for pass through or are read as text; image bytes go into the prompt."""
    table = pa.table({"prompt": ["a", "b"], **ODD})
    pq.write_table(table, tmp_path / "odd.parquet")
    made = batchrun("run", "odd.parquet", *flags, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    template = "{{ times | default('') }} {{ row['years'] }} {{ img | data_url }} {{ img.bytes | base64 }}"
    made = batchrun("run", "odd.parquet", "-o", "read", "--prompt", template, *flags, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    kept = pq.read_table(tmp_path / "read" / "results.parquet", columns=["times", "years"])
    assert kept["times"].cast(pa.int64()).to_pylist() == [2**63 - 1, None]
    failed = batchrun("run", "odd.parquet", "-o", "no", "--prompt", "{{ img.bytes }}", *flags, cwd=tmp_path)
    assert failed.returncode == 2
    assert "holds 8 bytes, not text" in failed.stderr


@pytest.mark.parametrize("bad", ['{"prompt": "b", "x": ' + "[" * 5000 + "]" * 5000 + "}", '{"prompt": null}'])
def test_a_row_that_no_request_fits(batchrun: Batchrun, flags: tuple[str, ...], tmp_path: Path, bad: str) -> None:
    """Hostile or empty rows are failed results where the job says so; the others are answered."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n' + bad + '\n{"prompt": "c"}\n')
    (tmp_path / "job.toml").write_text('[input]\npath = "rows.jsonl"\non_bad_row = "fail"\n')
    made = batchrun("run", "job.toml", *flags, cwd=tmp_path)
    assert made.returncode == 1, made.stderr
    assert [row["status"] for row in results(tmp_path / "runs" / "job")] == ["ok", "failed", "ok"]
    assert batchrun("run", "rows.jsonl", *flags, cwd=tmp_path).returncode == 2
