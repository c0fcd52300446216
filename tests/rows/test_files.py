"""Which files an input path means: each once, in order, and nothing that is no input (contract.md §4)."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError
from batchrun.records import Row
from batchrun.rows.files import find
from batchrun.rows.listing import Pattern, shown_name
from batchrun.rows.source import Source
from batchrun.sections import Input


def made(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            with path.open("wb") as file:
                pq.write_table(pa.table({"a": [1]}), file)
        elif name.endswith(".gz"):
            path.write_bytes(gzip.compress(b'{"a": 1}\n'))
        elif name.endswith((".csv", ".tsv")):
            path.write_text("a\n1\n")
        else:
            path.write_text('{"a": 1}\n')


def names(root: Path, path: str) -> list[str]:
    return [os.path.relpath(place, root) for place in find(path).places]


TREE = (
    "train.jsonl",
    "untrain.jsonl",
    "a/train.jsonl",
    "a/b/train.jsonl",
    "a/b/test.jsonl",
    "a/b/c/d.jsonl",
    "_x/train.jsonl",
)
GLOBS = {
    "train.jsonl": ["train.jsonl"],
    "**/train.jsonl": ["a/b/train.jsonl", "a/train.jsonl", "train.jsonl"],
    "*/train.jsonl": ["a/train.jsonl"],
    "a/**/*.jsonl": ["a/b/c/d.jsonl", "a/b/test.jsonl", "a/b/train.jsonl", "a/train.jsonl"],
    "a/**": ["a/b/c/d.jsonl", "a/b/test.jsonl", "a/b/train.jsonl", "a/train.jsonl"],
    "*": ["train.jsonl", "untrain.jsonl"],
    "?rain.jsonl": ["train.jsonl"],
    "[!u]*.jsonl": ["train.jsonl"],
    "**/b/*n.jsonl": ["a/b/train.jsonl"],
    "_x/*.jsonl": ["_x/train.jsonl"],
    "a/*/t??t.jsonl": ["a/b/test.jsonl"],
}


@pytest.mark.parametrize(("pattern", "expected"), GLOBS.items())
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    """`**` stands for any folders, none included; a name is matched whole; no sign takes a slash or a hidden name."""
    made(tmp_path, *TREE)
    assert names(tmp_path, f"{tmp_path}/{pattern}") == expected
    assert names(tmp_path, f"file://{tmp_path}/{pattern}") == expected


def test_signs_of_a_glob_in_names(tmp_path: Path) -> None:
    """A file that is called so is meant before a pattern is; in a URL, signs may be written by their numbers."""
    made(tmp_path, "a[1].jsonl", "a1.jsonl", "b c#d.jsonl")
    assert names(tmp_path, f"{tmp_path}/a[1].jsonl") == ["a[1].jsonl"]
    assert names(tmp_path, f"file://{tmp_path}/b%20c%23d.jsonl") == ["b c#d.jsonl"]
    assert Pattern("/x/a[]]b[^c].*").takes("a]b^.x")


def test_a_folder_is_taken_whole(tmp_path: Path) -> None:
    """A folder means every file below it, and a note says how many of what size."""
    made(tmp_path, "b.jsonl", "a/x.jsonl.gz", "a/.hidden.jsonl", ".git/x.jsonl", "_tmp/x.jsonl", "notes.txt")
    found = find(str(tmp_path))
    assert names(tmp_path, str(tmp_path)) == ["a/x.jsonl.gz", "b.jsonl"]
    assert found.notes[0].startswith("input: 2 files, ")
    assert " bytes: " in found.notes[0]


def test_links(tmp_path: Path) -> None:
    """Each file is taken once, by its own name, whatever links lead to it; a link to nothing is an error that names it."""
    made(tmp_path, "in/a.jsonl", "in/sub/b.jsonl", "other/c.jsonl")
    (tmp_path / "in" / "here").symlink_to(".")
    (tmp_path / "in" / "sub" / "up").symlink_to("..")
    (tmp_path / "in" / "0-latest.jsonl").symlink_to("a.jsonl")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "other")
    assert names(tmp_path / "in", f"{tmp_path}/in") == ["a.jsonl", "linked/c.jsonl", "sub/b.jsonl"]
    assert any("0-latest.jsonl, the same file as a.jsonl" in note for note in find(f"{tmp_path}/in").notes)
    assert names(tmp_path / "in", f"{tmp_path}/in/**/*.jsonl") == ["a.jsonl", "linked/c.jsonl", "sub/b.jsonl"]
    (tmp_path / "in" / "gone.jsonl").symlink_to("nowhere.jsonl")
    for path in (f"{tmp_path}/in", f"{tmp_path}/in/*.jsonl"):
        with pytest.raises(JobError, match=r"gone\.jsonl: a link to a file that is not there"):
            find(path)


def test_one_input_twice(tmp_path: Path) -> None:
    """A file and its compressed self are one input: which is meant has to be said."""
    made(tmp_path, "a.jsonl", "a.jsonl.gz")
    with pytest.raises(JobError, match=r"a\.jsonl and .*a\.jsonl\.gz look like one input twice"):
        find(str(tmp_path))
    assert names(tmp_path, f"{tmp_path}/*.gz") == ["a.jsonl.gz"]


@pytest.mark.parametrize("others", [("b.parquet",), ("b.csv",), ("b.csv", "c.parquet")])
def test_formats_are_not_mixed(tmp_path: Path, others: tuple[str, ...]) -> None:
    """Files of several formats are no input: one is to be named."""
    made(tmp_path, "a.jsonl", *others)
    with pytest.raises(JobError, match=r"holds both JSONL and .*name one kind"):
        find(str(tmp_path))


def run_directory(path: Path, *, single: bool) -> None:
    made(path, "results.parquet" if single else "results/part-00000.parquet", "cost_summary.parquet")
    (path / "run.json").write_text(json.dumps({"state": "complete"}))
    (path / "log.jsonl").write_text('{"event": 1}\n')
    (path / ".state").mkdir()
    (path / ".state" / "journal-00000.jsonl").write_text("{}\n")


@pytest.mark.parametrize("single", [True, False])
def test_run_directories_are_no_input(tmp_path: Path, single: bool) -> None:
    """An output inside the input's folder is left out, and said to be; a run directory itself is refused, its results not."""
    made(tmp_path, "in/a.parquet")
    run_directory(tmp_path / "in" / "out", single=single)
    found = find(f"{tmp_path}/in")
    assert names(tmp_path / "in", f"{tmp_path}/in") == ["a.parquet"]
    assert found.notes == ("left out: out, a run directory",)
    assert names(tmp_path / "in", f"{tmp_path}/in/**/*.parquet") == ["a.parquet"]
    with pytest.raises(JobError, match="a run directory, not an input"):
        find(f"{tmp_path}/in/out")
    if single:
        assert names(tmp_path, f"{tmp_path}/in/out/results.parquet") == ["in/out/results.parquet"]
        assert names(tmp_path, f"{tmp_path}/*/*/results.parquet") == ["in/out/results.parquet"]


def test_what_tools_put_beside_data(tmp_path: Path) -> None:
    """Descriptions, markers and bills are no input; a lone .json is, and one that is named is."""
    made(tmp_path, "a.parquet", "dataset_infos.json", "state.json", "cost_summary.parquet", "_SUCCESS", "more.json")
    assert names(tmp_path, str(tmp_path)) == ["a.parquet"]
    assert find(str(tmp_path)).notes == ("left out: more.json, beside files of another kind",)
    assert names(tmp_path, f"{tmp_path}/more.json") == ["more.json"]
    assert names(tmp_path, f"{tmp_path}/*.json") == ["more.json"]
    assert names(tmp_path, f"{tmp_path}/cost_summary.parquet") == ["cost_summary.parquet"]


def rows(path: str) -> list[dict[str, Any]]:
    def no_fault(row: Row) -> str | None:
        return None

    reader = Source(Input(path=path), 2)
    shards = [reader.read(info) for info in reader.scan(no_fault).shards]
    for shard in shards:
        if shard.table is not None:
            assert shard.table.column_names[-2:] == ["lang", "day"]
            assert shard.table.select(["lang", "day"]).to_pylist() == [
                {"lang": row.data["lang"], "day": row.data["day"]} for row in shard.rows
            ]
    return [row.data for shard in shards for row in shard.rows]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_folders_that_are_columns(tmp_path: Path, ending: str) -> None:
    """`lang=en/` gives its files a column, as text; a file's own column of that name comes first."""
    made(
        tmp_path,
        f"lang=de/day=01/x.{ending}",
        f"lang=en%2FUS/day=02/y.{ending}",
        f"lang=__HIVE_DEFAULT_PARTITION__/day=3/z.{ending}",
    )
    for path in (str(tmp_path), f"{tmp_path}/**/*.{ending}", f"{tmp_path}/lang=*/day=*/*"):
        found = rows(path)
        assert [(row["lang"], row["day"]) for row in found] == [(None, "3"), ("de", "01"), ("en/US", "02")]
    assert [row["lang"] for row in rows(f"{tmp_path}/lang=de/*/*")] == ["de"]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file whose name is Latin-1 is read like any other, and shown by its numbers."""
    for ending in (b"jsonl", b"parquet", b"jsonl.gz"):
        name = os.fsdecode(b"caf\xe9." + ending)
        made(tmp_path, name)
        found = find(f"{tmp_path}/{name}")
        assert found.files[0].name.endswith(f"caf\\xe9.{ending.decode()}")
        reader = Source(Input(path=f"{tmp_path}/{name}"), 5)
        assert reader.scan(lambda row: None).rows == 1
        (tmp_path / name).unlink()
    assert shown_name("ä") == "ä"


def test_an_unreadable_url_shows_no_key() -> None:
    """A URL's user and query may hold a key, and are not shown."""
    with pytest.raises(JobError) as caught:
        find("nosuch://user:secret@host/x.jsonl?key=secret")
    assert "secret" not in str(caught.value)
