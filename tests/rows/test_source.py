"""The input in every format: the same rows, shards and faults (contract.md §4)."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.records import Row
from batchrun.rows.files import Found
from batchrun.rows.lines import Lines
from batchrun.rows.source import Source
from batchrun.sections import Input

ROWS: list[dict[str, Any]] = [
    {"id": f"r{number}", "text": f'wörd, "{number}"\n你', "n": str(number)} for number in range(23)
]


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


def delimited(rows: list[dict[str, Any]], sign: str = ",", end: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "text", "n"], delimiter=sign, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def one_table(name: str, pack: Callable[[bytes], bytes], sign: str = ",", end: str = "\n") -> Callable[[Path], str]:
    def write(tmp_path: Path) -> str:
        (tmp_path / name).write_bytes(pack(delimited(ROWS, sign, end)))
        return str(tmp_path / name)

    return write


def tables(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(delimited(ROWS[:9]))
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(delimited(ROWS[9:9])))
    (tmp_path / "in" / "c.tsv.zst").write_bytes(zstd(delimited(ROWS[9:], "\t")))
    return str(tmp_path / "in")


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
    "csv": one_table("a.csv", bytes),
    "csv, CRLF": one_table("a.csv", bytes, end="\r\n"),
    "csv with a byte order mark": one_table("a.csv", lambda data: b"\xef\xbb\xbf" + data),
    "csv with blank lines": one_table("a.csv", lambda data: b"\n\n" + data.replace(b"\nr", b"\n\nr")),
    "csv without a line break at the end": one_table("a.csv", lambda data: data.rstrip(b"\n")),
    "csv.gz": one_table("a.csv.gz", gzip.compress),
    "csv.zst": one_table("a.csv.zst", zstd),
    "csv with semicolons": one_table("a.csv", bytes, ";"),
    "tsv": one_table("a.tsv", bytes, "\t"),
    "several csv": tables,
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
    make = FORMATS[request.param] if isinstance(request.param, str) else request.param
    made: str = make(tmp_path)
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
        source(path).scan(lambda row: "bad n" if row.data["n"] == "7" else None)
    assert 'on_bad_row = "fail"' in str(caught.value)
    kept = source(path, on_bad_row="fail").scan(lambda row: "bad n" if row.data["n"] == "7" else None)
    assert (kept.rows, kept.bad_rows) == (23, 1)


MALFORMED = {
    "not JSON": (b'{"a": }', "not valid JSON"),
    "cut short": (b'{"a": 1', "not valid JSON"),
    "no object": (b"[1]", "must be a JSON object, not list"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is no JSON value; write null"),
    "infinity": (b'{"a": [1, -Infinity]}', "Infinity is no JSON value"),
    "half a character": (b'{"a": "\\ud83d"}', "half a character"),
    "5,000 levels": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested more than 256 levels deep"),
    "257 levels": (b'{"a":' + b"[" * 256 + b"]" * 256 + b"}", "nested more than 256 levels deep"),
    "lists without an end": (b"[" * 100_000, "nested more than 256 levels deep"),
    "pretty-printed further on": (b"{", "each row must stand whole on one line"),
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
    ({"id": 7.0}, None, "7"),
    ({"id": 7.5}, None, "7.5"),
    ({"id": True}, None, "true"),
    ({"id": {"a": 1}}, None, '{"a":1}'),
    ({"id": ""}, None, "0"),
    ({"id": 2**70}, None, str(2**70)),
]


@pytest.mark.parametrize(("row", "named", "expected"), IDS, ids=str)
def test_id(tmp_path: Path, row: dict[str, Any], named: str | None, expected: str) -> None:
    """The id is the named column, else `custom_id`, else `id`, else the row number."""
    (tmp_path / "a.jsonl").write_bytes(encoded([row]))
    reader = source(str(tmp_path / "a.jsonl"), id=named)
    assert reader.read(reader.scan(no_fault).shards[0]).rows[0].id == expected


PARQUET_IDS: dict[str, tuple[Any, list[str]]] = {
    "bytes": (pa.array([b"ab", b"\xff", None]), ["ab", "ff", "row:2"]),
    "ints with a gap": (pa.array([1.0, float("nan"), 3.0]), ["1", "row:1", "3"]),
    "decimals": (pa.array([Decimal("1.00"), Decimal("2.50"), None]), ["1", "2.50", "row:2"]),
    "times": (pa.array([0, 1, None], pa.timestamp("s")), ["1970-01-01 00:00:00", "1970-01-01 00:00:01", "row:2"]),
    "none": (pa.array([None, None, None], pa.string()), ["0", "1", "2"]),
}


@pytest.mark.parametrize(("column", "expected"), PARQUET_IDS.values(), ids=PARQUET_IDS)
def test_ids_as_people_wrote_them(tmp_path: Path, column: Any, expected: list[str]) -> None:
    """An id is no Python text: no `1.0`, no `b'ab'`; a row without one gets an id that none of the others has."""
    pq.write_table(pa.table({"id": column}), tmp_path / "a.parquet")
    reader = source(str(tmp_path / "a.parquet"))
    assert [row.id for row in reader.read(reader.scan(no_fault).shards[0]).rows] == expected


def test_a_rows_number_is_nobodys_id(tmp_path: Path) -> None:
    """Where some rows have ids of their own, another's number can't be mistaken for one."""
    (tmp_path / "a.jsonl").write_bytes(encoded([{"x": 1}, {"id": "0"}, {"id": 3}, {"x": 1}]))
    reader = source(str(tmp_path / "a.jsonl"), 2)
    ids = [row.id for info in reader.scan(no_fault).shards for row in reader.read(info).rows]
    assert ids == ["row:0", "0", "3", "row:3"]


COLLISIONS: list[tuple[list[Any], list[str]]] = [
    (["row:1", None], ["row:1", "row:row:1"]),
    ([None, "row:0", None], ["row:row:0", "row:0", "row:row:2"]),
    (["row:row:1", None, "row:7"], ["row:row:1", "row:row:row:1", "row:7"]),
    (["row:x", None, "row:", "arow:3"], ["row:x", "row:1", "row:", "arow:3"]),
]


@pytest.mark.parametrize(("own", "expected"), COLLISIONS)
def test_an_id_that_looks_like_a_rows_number(tmp_path: Path, own: list[Any], expected: list[str]) -> None:
    """Whatever ids people give, a row without one gets an id that no other row has."""
    (tmp_path / "a.jsonl").write_bytes(encoded([{"id": one} for one in own]))
    reader = source(str(tmp_path / "a.jsonl"), 2)
    ids = [row.id for info in reader.scan(no_fault).shards for row in reader.read(info).rows]
    assert ids == expected


BATCH = [{"custom_id": name, "body": {}} for name in ("a", "b", "a", "c", "b")]


def test_a_custom_id_that_stands_twice(tmp_path: Path) -> None:
    """In a batch file it is a fault of the later row, found before anything is sent; of other rows it is said."""
    (tmp_path / "a.jsonl").write_bytes(encoded(BATCH))
    with pytest.raises(JobError, match=r"a.jsonl:3: custom_id 'a' stands in an earlier row too.*\(1 more rows"):
        source(str(tmp_path / "a.jsonl"), 2).scan(no_fault)
    scanned = source(str(tmp_path / "a.jsonl"), 2, on_bad_row="fail").scan(no_fault)
    assert scanned.bad_rows == 2
    reader = source(str(tmp_path / "a.jsonl"), 2, on_bad_row="fail")
    rows = [row for info in scanned.shards for row in reader.read(info).rows]
    assert [row.error is not None for row in rows] == [False, False, True, False, True]
    (tmp_path / "b.jsonl").write_bytes(encoded([{"id": "a"}, {"id": "b"}, {"id": "a"}]))
    reader = source(str(tmp_path / "b.jsonl"))
    assert reader.scan(no_fault).bad_rows == 0
    assert reader.notes == [
        f"1 row has the id of an earlier row ('a' in {tmp_path}/b.jsonl:3): the results tell them apart by `row` alone"
    ]


def test_missing_id_column(tmp_path: Path) -> None:
    """A named id column that a row lacks is a fault that names both."""
    (tmp_path / "a.jsonl").write_bytes(encoded([{"x": 1}]))
    with pytest.raises(JobError, match=r"no column `key` for the id.*columns are: x"):
        source(str(tmp_path / "a.jsonl"), id="key").scan(no_fault)


WHOLE = {
    "UTF-16": ('{"a": 1}\n'.encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": ('{"a": 1}\n'.encode("utf-16-le"), "UTF-16"),
    "an array": (b'[{"a": 1}, {"a": 2}]', "a JSON array"),
    "an array over lines": (b'[\n{"a": 1},\n{"a": 2}]', "jq -c '.[]'"),
    "pretty-printed": (b'{\n  "a": 1\n}\n', "pretty-printed JSON"),
    "one endless line": (b'[1, {"a": "' + b"x" * (70 << 20), "a JSON array"),
}


@pytest.mark.parametrize("on_bad_row", ["stop", "fail"])
@pytest.mark.parametrize(("content", "says"), WHOLE.values(), ids=WHOLE)
def test_a_file_that_is_no_json_lines(tmp_path: Path, content: bytes, says: str, on_bad_row: str) -> None:
    """What is wrong with a whole file is said of it, with the way out, and is never a failed row for each of its lines."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(JobError) as caught:
        source(str(tmp_path / "a.json"), on_bad_row=on_bad_row).scan(no_fault)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_put_one_behind_the_other(tmp_path: Path) -> None:
    """A byte order mark stands wherever `cat` left one, and is no part of a row; 256 levels are fine."""
    deep = b'{"a":' + b"[" * 255 + b"]" * 255 + b"}"
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n\xef\xbb\xbf{"a": 2}\n' + deep)
    reader = source(str(tmp_path / "a.jsonl"))
    assert [row.data["a"] for row in reader.read(reader.scan(no_fault).shards[0]).rows][:2] == [1, 2]


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    """A line that no request can have is a fault of its row, is not kept in memory, and costs the next row nothing."""
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"a": 1}\n{"a": "')
        for _ in range(66):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"a": 3}\n')
    with pytest.raises(JobError, match=r"a\.jsonl:2: a line of more than 64 MiB"):
        source(str(tmp_path / "a.jsonl")).scan(no_fault)
    reader = source(str(tmp_path / "a.jsonl"), on_bad_row="fail")
    rows = reader.read(reader.scan(no_fault).shards[0]).rows
    assert [row.data.get("a") for row in rows] == [1, None, 3]
    assert [row.where.rpartition(":")[2] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize("path", ["jsonl.gz", "csv.zst", "csv", "parquet"], indirect=True)
def test_shards_further_on_are_read_on_from_where_it_stands(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going through some of the shards in order opens each file once: what can't seek is never read from its start again."""
    opened: list[int] = []
    reader = source(path, 2)
    shards = reader.scan(no_fault).shards
    real = Found.open

    def counting(found: Found, number: int) -> Any:
        opened.append(number)
        return real(found, number)

    monkeypatch.setattr(Found, "open", counting)
    reader = source(path, 2)
    opened.clear()
    for number in (1, 4, 5, 9, 11):
        assert [row.data for row in reader.read(shards[number]).rows] == ROWS[number * 2 : number * 2 + 2]
    plain = Path(path).suffix in (".csv", ".jsonl")
    assert len(opened) <= (6 if plain else 2)


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
    if file.suffix in (".jsonl", ".csv", ".tsv"):
        file.write_bytes(file.read_bytes().replace(b"6", b"9"))
        with pytest.raises(JobError, match="changed while the run was reading it"):
            source(path).read(shard)


def test_a_long_window_is_named(tmp_path: Path) -> None:
    """A .zst that was written with --long can't be read, and says so and how to write it again."""
    frame = b"\x28\xb5\x2f\xfd\x00\xa8" + (3 << 3 | 1).to_bytes(3, "little") + b"{}\n"
    (tmp_path / "a.jsonl.zst").write_bytes(frame)
    with pytest.raises(JobError, match=r"a\.jsonl\.zst: compressed with a longer window .*zstd -d --long=31"):
        source(str(tmp_path / "a.jsonl.zst")).scan(no_fault)


def test_a_compressed_file_that_is_cut_short(tmp_path: Path) -> None:
    """A download that broke off is an error, never fewer rows."""
    for name, data in (("a.jsonl.gz", gzip.compress(encoded(ROWS))), ("a.jsonl.zst", zstd(encoded(ROWS)))):
        (tmp_path / name).write_bytes(data[:-20])
        with pytest.raises(JobError, match="cannot be read"):
            source(str(tmp_path / name)).scan(no_fault)


def test_compressed_files_put_one_behind_the_other(tmp_path: Path) -> None:
    """`cat a.gz b.gz` is one file with the rows of both."""
    for name, pack in (("a.jsonl.gz", gzip.compress), ("b.jsonl.zst", zstd)):
        (tmp_path / name).write_bytes(pack(encoded(ROWS[:3])) + pack(encoded(ROWS[3:])))
        assert source(str(tmp_path / name)).scan(no_fault).rows == len(ROWS)


def test_an_array_is_told_by_its_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its one line is, no more than a block of it is read."""
    (tmp_path / "a.json").write_bytes(b'[{"a": "' + b"x" * (8 << 20) + b'"}]')
    read: list[int] = []
    real = Lines.head

    def counting(lines: Lines) -> bytes:
        head = real(lines)
        read.append(len(head))
        return head

    monkeypatch.setattr(Lines, "head", counting)
    monkeypatch.setattr(Lines, "__next__", None)
    with pytest.raises(JobError, match="a JSON array"):
        source(str(tmp_path / "a.json")).scan(no_fault)
    assert sum(read) <= 1 << 20
