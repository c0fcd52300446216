"""Input that comes through a pipe: copied, known by its content, told by how it begins."""

import gc
import gzip
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.rows.source import Source
from batchrun.rows.spool import run_name
from batchrun.sections import Input

ROWS = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]
LINES = b'{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n'


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


PIPED = {
    "JSON Lines": LINES,
    "JSON Lines with a mark": b"\xef\xbb\xbf" + LINES,
    "compressed": gzip.compress(LINES),
    "CSV": b"id,text\na,x\nb,y\n",
    "TSV": b"id\ttext\na\tx\nb\ty\n",
    "Parquet": parquet(),
}


class Stdin:
    """Standard input that is a file with this content."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def read(path: str) -> tuple[Source, list[dict[str, Any]]]:
    reader = Source(Input(path=path), 1)
    return reader, [row.data for info in reader.scan(lambda row: None).shards for row in reader.read(info).rows]


@pytest.mark.parametrize("content", PIPED.values(), ids=PIPED)
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """`-` is read in every format, its copy goes with the one who reads it, and the same content is the same input."""
    (tmp_path / "in").write_bytes(content)
    found = []
    for _ in range(2):
        stdin = Stdin(tmp_path / "in")
        monkeypatch.setattr(sys, "stdin", stdin)
        reader, rows = read("-")
        stdin.close()
        assert rows == ROWS
        (file,) = reader.files
        copy = Path(reader._found.places[0])
        assert copy.exists()
        assert copy.stat().st_mode & 0o777 == 0o600
        found.append(file)
        del reader
        gc.collect()
        assert not copy.exists()
    assert found[0] == found[1]
    assert found[0].name == "stdin"


def test_a_named_pipe(tmp_path: Path) -> None:
    """What a shell makes of `<(…)` is read once, like standard input."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(LINES,))
    writer.start()
    assert read(str(tmp_path / "pipe"))[1] == ROWS
    writer.join()
    assert run_name(str(tmp_path / "pipe")) == run_name("-") == "stdin"


def test_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal is no input, and what has no known form is refused."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(JobError, match="nothing is piped"):
        read("-")
    (tmp_path / "in").write_bytes(b"hello\nworld\n")
    stdin = Stdin(tmp_path / "in")
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(JobError, match="neither JSON Lines, CSV nor Parquet"):
        read("-")
    stdin.close()


@pytest.mark.parametrize(
    ("path", "name"), [("a/b.c.jsonl", "b"), ("caf\udce9.csv", "caf_"), ("x/", "x"), (".jsonl", "run")]
)
def test_the_name_of_a_run(path: str, name: str) -> None:
    """A run is named by its input, without what no path may hold."""
    assert run_name(path) == name
