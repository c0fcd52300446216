"""What an earlier writer left is seen, and not therefore durable: names are made so before anything is built on them."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import JobError, LedgerError
from batchrun.ledger import durable
from batchrun.ledger.manifest import Manifest
from batchrun.ledger.run_dir import RunDir


class Syncs:
    """The folders that are synced, in their order; `refuse` names those whose sync fails."""

    def __init__(self) -> None:
        self.seen: list[Path] = []
        self.refuse: set[Path] = set()

    def __call__(self, path: Path) -> None:
        self.seen.append(path)
        if path in self.refuse:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def syncs(monkeypatch: Any) -> Syncs:
    made = Syncs()
    monkeypatch.setattr(durable, "sync_dir", made)
    return made


def test_a_folder_whose_name_may_be_lost_does_not_stay(tmp_path: Path, syncs: Syncs) -> None:
    """Where its parent can't be synced a new folder is taken away: a later call would find it there and trust it."""
    syncs.refuse.add(tmp_path)
    with pytest.raises(LedgerError, match="check the disk"):
        durable.make_dir(tmp_path / "runs" / "one")
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_moved_is_nowhere_less_than_once(tmp_path: Path, syncs: Syncs) -> None:
    """It stands in its new folder, durably, before it goes from the old one; a move that was cut short is finished."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "part").write_text("kept")
    (old / "other").write_text("another file")
    (new / "other").write_text("of the same name")
    syncs.refuse.add(new)
    with pytest.raises(LedgerError):
        durable.move([old / "part"], new)
    assert (old / "part").read_text() == (new / "part").read_text() == "kept"
    syncs.refuse.clear()
    durable.finish_moves([new], [tmp_path, old])
    assert [path.name for path in old.iterdir()] == ["other"]
    assert (new / "part").read_text() == "kept"


def test_a_disk_that_knows_no_second_names_moves_all_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    """Some network and user-space filesystems have no links."""

    def no_links(*_paths: Path) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(durable.os, "link", no_links)
    (tmp_path / "part").write_text("kept")
    durable.move([tmp_path / "part"], tmp_path / "new")
    assert (tmp_path / "new" / "part").read_text() == "kept"
    assert not (tmp_path / "part").exists()


def test_a_folder_is_changed_before_it_is_synced_again(tmp_path: Path, monkeypatch: Any) -> None:
    """After a sync that failed the kernel may hold it for clean, and a second sync would say nothing of the disk."""
    touched: list[bool] = []
    os.utime(tmp_path, (1, 1))
    monkeypatch.setattr(durable, "sync_dir", lambda path: touched.append(path.stat().st_mtime > 1))
    durable.renew([tmp_path])
    assert touched == [True]
    assert list(tmp_path.iterdir()) == []


def left_behind(folder: Path) -> RunDir:
    """A run directory as an earlier call left it, with something set aside and something superseded."""
    run = RunDir(str(folder))
    for place in ("results", ".state/superseded/x-0", "set-aside/y-0/results"):
        (folder / place).mkdir(parents=True)
    (folder / "results" / "part-00000.parquet").write_text("p")
    run.write_manifest(Manifest("complete", "0", {}, [], "", ""))
    return run


def test_the_lock_is_had_once_all_names_are_durable(tmp_path: Path, syncs: Syncs) -> None:
    """What was moved first in its new folder, then in the old ones; and the run directory's own name in its parents."""
    folder = tmp_path / "run"
    run = left_behind(folder)
    syncs.seen.clear()
    with run.held():
        inner = [path for path in syncs.seen if path.is_relative_to(folder)]
    assert tmp_path in syncs.seen
    assert inner.index(folder / ".state/superseded/x-0") < inner.index(folder / "results")
    assert inner.index(folder / "set-aside/y-0/results") < inner.index(folder / "results")
    assert {folder, folder / ".state", folder / "results"} <= set(inner)


@pytest.mark.parametrize("place", ["", "results", ".state", ".state/superseded/x-0"])
def test_nothing_is_built_on_names_that_cannot_be_synced(tmp_path: Path, syncs: Syncs, place: str) -> None:
    """Not even that a run is complete is said then; nothing has been sent, and the lock is free again."""
    run = left_behind(tmp_path)
    syncs.refuse.add(tmp_path / place)
    with pytest.raises(JobError, match="check the disk, then run the same command again"):
        run.acquire()
    syncs.refuse.clear()
    with run.held():
        pass
