"""Stores: one suite for a folder and for a place on a filesystem of pyarrow's; a file appears whole or not at all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from pyarrow import fs

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import LocalStore, ObjectStore, Store, Stored, object_store, shown_url, write_whole


def local(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "run")


def bucket(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "scratch").mkdir()
    return ObjectStore("s3://bucket/run", fs.LocalFileSystem(), str(tmp_path / "bucket"), tmp_path / "scratch")


@pytest.fixture(params=[local, bucket], ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield request.param(tmp_path)
    left = [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    assert not left, "temporary files stay behind"


def test_what_is_published_is_read_back(store: Store) -> None:
    """Names, bytes and folders; what isn't there is no fault to ask for."""
    if isinstance(store, ObjectStore):
        store._filesystem.create_dir(store._path("results"))
    assert (store.names("results"), store.folders("")) == ([], ["results"] if isinstance(store, ObjectStore) else [])
    for name in ("results/b", "results/a"):
        write_whole(Stored(store, name), name.encode())
    assert store.names("results") == ["a", "b"]
    assert store.folders("") == ["results"]
    assert store.exists("results/a")
    assert not store.exists("results")
    assert store.read("results/a") == b"results/a"
    with pytest.raises(FileNotFoundError):
        store.read("c")
    store.remove(["results/a", "results/none"])
    assert store.names("results") == ["b"]


def test_a_file_that_could_not_be_written_whole_does_not_appear(store: Store) -> None:
    """A fault while it is written leaves the old one, and no temporary file."""
    write_whole(Stored(store, "x"), b"old")
    with pytest.raises(ValueError, match="half"), store.replacing("x") as temporary:
        temporary.write_bytes(b"ne")
        raise ValueError("half of it")
    assert store.read("x") == b"old"


class Broken:
    """A filesystem on which every upload ends early, and closes all the same."""

    def __init__(self) -> None:
        self.inner = fs.LocalFileSystem()

    def open_output_stream(self, path: str) -> Any:
        stream = self.inner.open_output_stream(path)

        class Early:
            def write(self, data: bytes) -> int:
                stream.write(data[:2])
                raise OSError("connection reset")

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

        return Early()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_an_upload_that_was_cut_short_leaves_no_object(tmp_path: Path) -> None:
    """pyarrow finishes a broken upload when it closes; the truncated object is taken away and the fault named."""
    store = bucket(tmp_path)
    assert isinstance(store, ObjectStore)
    store._filesystem = Broken()
    with pytest.raises(LedgerError, match=r"s3://bucket/run/x: connection reset; check the bucket"):
        write_whole(Stored(store, "x"), b"whole")
    assert not store.exists("x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://KEY:SECRET@bucket/run/?endpoint_override=localhost:1&scheme=http", "s3://bucket/run"),
        ("gs://bucket/a/b", "gs://bucket/a/b"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_key(url: str, shown: str) -> None:
    """User, password and query are left out of every message and file."""
    assert shown_url(url) == shown


def test_an_output_that_is_no_store(tmp_path: Path) -> None:
    """A scheme that no results can be published to is named, with those that are."""
    with pytest.raises(JobError, match=r"http://host/run: an output is a local folder or one of s3://"):
        object_store("http://host/run", tmp_path)


def test_the_working_state_of_a_bucket_is_local_and_each_has_its_own(monkeypatch: Any, tmp_path: Path) -> None:
    """It stands in the user's state folder, the same for the same URL, whoever's key is in it; or where the job says."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    query = "?region=x&endpoint_override=localhost:1"
    state: Callable[[str], Path] = lambda url: RunDir(url + query).state  # noqa: E731
    assert state("s3://b/run") == state("s3://k:s@b/run") != state("s3://c/run")
    assert state("s3://b/run").parent == tmp_path / "batchrun"
    assert RunDir("s3://b/run" + query, str(tmp_path / "mine")).state == tmp_path / "mine"
    assert RunDir(f"file://{tmp_path}/run").state == tmp_path / "run" / ".state"
