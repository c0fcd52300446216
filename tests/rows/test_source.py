"""The input in every format: the same rows, shards and faults (contract.md §4)."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.job import Input
from batchrun.records import Row
from batchrun.rows.source import Source

ROWS = [{"id": f"r{number}", "text": f"wörd {number} 你", "n": number} for number in range(23)]


def encoded(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


def one_file(name: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def write(tmp_path: Path) -> str:
        (tmp_path / name).write_bytes(pack(encoded(ROWS)))
        return str(tmp_path / name)

    return write


def parquet(tmp_path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=6)
    return str(tmp_path / "a.parquet")


def directory(tmp_path: Path) -> str:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.jsonl").write_bytes(encoded(ROWS[:10]))
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(encoded(ROWS[10:15])))
    (tmp_path / "in" / "sub" / "c.jsonl.zst").write_bytes(zstd(encoded(ROWS[15:])))
    (tmp_path / "in" / "_SUCCESS.jsonl").write_bytes(b"nothing")
    (tmp_path / "in" / "notes.txt").write_bytes(b"nothing")
    return str(tmp_path / "in")


def glob(tmp_path: Path) -> str:
    for number, rows in enumerate((ROWS[:4], ROWS[4:17], ROWS[17:])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"part-{number}.parquet")
    (tmp_path / "other.jsonl").write_bytes(b"nothing")
    return str(tmp_path / "part-*.parquet")


def url(tmp_path: Path) -> str:
    (tmp_path / "a.jsonl").write_bytes(encoded(ROWS))
    return (tmp_path / "a.jsonl").as_uri()


FORMATS: dict[str, Callable[[Path], str]] = {
    "jsonl": one_file("a.jsonl", bytes),
    "jsonl.gz": one_file("a.jsonl.gz", gzip.compress),
    "jsonl.zst": one_file("a.jsonl.zst", zstd),
    "CRLF": one_file("a.jsonl", lambda data: data.replace(b"\n", b"\r\n")),
    "byte order mark": one_file("a.jsonl", lambda data: b"\xef\xbb\xbf" + data),
    "blank lines": one_file("a.jsonl", lambda data: b"\n \n" + data.replace(b"\n", b"\n\r\n\n")),
    "no line break at the end": one_file("a.jsonl", lambda data: data.rstrip(b"\n")),
    "parquet": parquet,
    "directory": directory,
    "glob": glob,
    "file URL": url,
}


def no_fault(row: Row) -> str | None:
    return None


def source(path: str, shard_rows: int = 5, **settings: Any) -> Source:
    return Source(Input(path=path, **settings), shard_rows)


@pytest.fixture(params=FORMATS.values(), ids=FORMATS.keys())
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made: str = request.param(tmp_path)
    return made


def test_rows_in_order(path: str) -> None:
    """Every format gives the same rows in input order, numbered from 0, with their ids."""
    inventory = source(path).scan(no_fault)
    reader = source(path)
    rows = [row for info in inventory.shards for row in reader.read(info).rows]
    assert [row.data for row in rows] == ROWS
    assert [row.index for row in rows] == list(range(23))
    assert [row.id for row in rows] == [row["id"] for row in ROWS]
    assert (inventory.rows, inventory.bad_rows) == (23, 0)
    assert [info.rows for info in inventory.shards] == [5, 5, 5, 5, 3]
    assert inventory.arrow_schema().names == ["id", "text", "n"]


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 1, 2], [3]])
def test_shards_in_any_order(path: str, order: list[int]) -> None:
    """A shard read by itself, again or out of order is the one that was scanned."""
    reader = source(path)
    shards = reader.scan(no_fault).shards
    for number in order:
        shard = reader.read(shards[number])
        assert shard.info == shards[number]
        assert [row.data for row in shard.rows] == ROWS[number * 5 : number * 5 + 5]


@pytest.mark.parametrize(("limit", "rows"), [(0, 0), (1, 1), (5, 5), (7, 7), (99, 23)])
def test_limit(path: str, limit: int, rows: int) -> None:
    """`limit` takes the first rows, and the shards read back are those scanned."""
    reader = source(path, limit=limit)
    inventory = reader.scan(no_fault)
    assert inventory.rows == rows
    assert [row.data for info in inventory.shards for row in reader.read(info).rows] == ROWS[:rows]


@pytest.mark.parametrize("shard_rows", [1, 4, 1000])
def test_shard_size_changes_no_row(path: str, shard_rows: int) -> None:
    """How rows are cut into shards changes none of them."""
    reader = source(path, shard_rows)
    assert [row.data for info in reader.scan(no_fault).shards for row in reader.read(info).rows] == ROWS


def test_a_fault_of_a_row_is_named(path: str) -> None:
    """A row that can't be used stops before anything is sent, named by its file and line."""
    with pytest.raises(JobError, match=r"[\w.-]+:\d+: bad n") as caught:
        source(path).scan(lambda row: "bad n" if row.data["n"] == 7 else None)
    assert 'on_bad_row = "fail"' in str(caught.value)
    kept = source(path, on_bad_row="fail").scan(lambda row: "bad n" if row.data["n"] == 7 else None)
    assert (kept.rows, kept.bad_rows) == (23, 1)


MALFORMED = {
    "not JSON": (b'{"a": }', "not valid JSON"),
    "cut short": (b'{"a": 1', "not valid JSON"),
    "no object": (b"[1]", "must be a JSON object, not list"),
    "not UTF-8": (b'{"a": "\xff"}', "UTF-8"),
}


@pytest.mark.parametrize(("line", "says"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_line(tmp_path: Path, line: bytes, says: str) -> None:
    """A malformed line is file:line and why; with on_bad_row = "fail" it is one row with its error."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(JobError) as caught:
        source(str(path)).scan(no_fault)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert says in str(caught.value)
    reader = source(str(path), on_bad_row="fail")
    inventory = reader.scan(no_fault)
    rows = reader.read(inventory.shards[0]).rows
    assert [row.data for row in rows] == [{"a": 1}, {}, {"a": 2}]
    assert [row.id for row in rows] == ["0", "1", "2"]
    assert says in (rows[1].error or "")
    assert inventory.bad_rows == 1


def test_many_faults_are_counted(tmp_path: Path) -> None:
    """The first fault is shown; the rest are counted."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x\n" * 30)
    with pytest.raises(JobError, match="29 more rows"):
        source(str(path)).scan(no_fault)


IDS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"custom_id": "c", "id": "i"}, None, "c"),
    ({"id": "i"}, None, "i"),
    ({"id": 7}, None, "7"),
    ({"custom_id": None, "id": "i"}, None, "i"),
    ({"id": None}, None, "0"),
    ({"x": 1}, None, "0"),
    ({"id": "i", "key": "k"}, "key", "k"),
]


@pytest.mark.parametrize(("row", "named", "expected"), IDS, ids=str)
def test_id(tmp_path: Path, row: dict[str, Any], named: str | None, expected: str) -> None:
    """The id is the named column, else `custom_id`, else `id`, else the row number."""
    (tmp_path / "a.jsonl").write_bytes(encoded([row]))
    reader = source(str(tmp_path / "a.jsonl"), id=named)
    assert reader.read(reader.scan(no_fault).shards[0]).rows[0].id == expected


def test_missing_id_column(tmp_path: Path) -> None:
    """A named id column that a row lacks is a fault that names both."""
    (tmp_path / "a.jsonl").write_bytes(encoded([{"x": 1}]))
    with pytest.raises(JobError, match=r"no column `key` for the id.*columns: x"):
        source(str(tmp_path / "a.jsonl"), id="key").scan(no_fault)


NOT_THERE = {
    "no such file": ("gone.jsonl", "no such file"),
    "a glob without a match": ("gone-*.jsonl", "no .jsonl"),
    "an empty directory": ("empty", "no .jsonl"),
    "an unknown ending": ("a.txt", "not a known input format"),
    "mixed formats": ("mixed", "both JSONL and Parquet"),
    "no Parquet": ("bad.parquet", "not a readable Parquet file"),
    "no gzip": ("bad.jsonl.gz", "cannot be read"),
}


@pytest.mark.parametrize(("name", "says"), NOT_THERE.values(), ids=NOT_THERE)
def test_no_input(tmp_path: Path, name: str, says: str) -> None:
    """An input that isn't there or can't be read is a JobError that names it."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for file in ("a.txt", "mixed/a.jsonl", "mixed/b.parquet", "bad.parquet", "bad.jsonl.gz"):
        (tmp_path / file).write_bytes(b"no such thing")
    with pytest.raises(JobError) as caught:
        source(str(tmp_path / name)).scan(no_fault)
    assert name in str(caught.value)
    assert says in str(caught.value)


def test_input_changed_between_scan_and_read(path: str, tmp_path: Path) -> None:
    """A shard that is no longer what was scanned is refused, never mixed with what was."""
    reader = source(path)
    shard = reader.scan(no_fault).shards[1]
    file = Path(reader.files[0].path)
    if file.suffix == ".jsonl":
        file.write_bytes(file.read_bytes().replace(b"6", b"9"))
        with pytest.raises(JobError, match="changed while the run was reading it"):
            source(path).read(shard)
