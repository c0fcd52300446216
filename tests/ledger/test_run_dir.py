"""The run directory: one writer, and nothing of an earlier run is ever deleted."""

import fcntl
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import JobError
from batchrun.ledger import lock as module
from batchrun.ledger.manifest import Manifest
from batchrun.ledger.run_dir import RunDir


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    """While one holds the lock another gets host, pid and since when; when it is let go the next one has it at once."""
    first, second = RunDir(str(tmp_path / "run")), RunDir(str(tmp_path / "run"))
    with first.held(), pytest.raises(JobError, match=rf"under way there \(host \S+, pid {os.getpid()}, since 20"):
        second.acquire()
    assert not (tmp_path / "run").exists(), "nothing was begun, so nothing stays"
    with second.held():
        pass


def test_the_holder_says_what_it_waits_for(tmp_path: Path) -> None:
    """Others read it while the lock is held, and still who holds it; it ends with a word of the holder or the next one's
    coming, and nobody fails for it.
    """
    ours, theirs = RunDir(str(tmp_path)), RunDir(str(tmp_path))
    ours.say("nobody reads this: it is not held")
    with ours.held():
        assert theirs.said() == ""
        ours.say("paused: a longer reason\nof two lines")
        ours.say("paused: HTTP 502")
        assert theirs.said() == "paused: HTTP 502"
        with pytest.raises(JobError, match=f"pid {os.getpid()}, since [^)]*\\); wait for it"):
            theirs.acquire()
        ours.say("")
        assert theirs.said() == ""
        ours.say("paused when it died")
    with theirs.held():
        assert theirs.said() == ""


def test_a_look_at_the_lock_does_not_keep_a_run_from_it(tmp_path: Path, monkeypatch: Any) -> None:
    """`status` takes the lock for a moment; a run that starts in just that moment waits for it to pass."""
    run = RunDir(str(tmp_path))
    (tmp_path / ".state").mkdir()
    looking = os.open(tmp_path / ".state" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: fcntl.flock(looking, fcntl.LOCK_UN))
    with run.held():
        assert RunDir(str(tmp_path)).locked_by_another()
    os.close(looking)


def test_a_filesystem_without_locks_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """Where two runs could not be told apart none begins; the message names another place as the remedy."""

    def no_locks(_handle: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with pytest.raises(JobError, match=r"has no locks .*give another place with -o"):
        RunDir(str(tmp_path / "run")).acquire()


def filled(folder: Path) -> RunDir:
    run = RunDir(str(folder))
    (folder / "results").mkdir(parents=True)
    (folder / ".state" / "superseded" / "x-0").mkdir(parents=True)
    for name in ("results.parquet", "cost_summary.parquet", "results/part-00001.parquet", ".state/inventory.json"):
        (folder / name).write_text(name)
    (folder / ".state" / "journal-00002.jsonl").write_text("j")
    (folder / ".state" / "superseded" / "x-0" / "part-00000.parquet").write_text("s")
    run.write_manifest(Manifest("complete", "0", {}, [], "", ""))
    return run


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_setting_a_run_aside_moves_all_of_it(tmp_path: Path) -> None:
    """Every file of the old run is in one folder, under its own name; a second time has nothing to do."""
    run = filled(tmp_path)
    before = contents(tmp_path)
    with run.held():
        place = run.set_aside()
        assert place is not None
        assert contents(Path(place)) == before
        assert contents(tmp_path) == {str(Path(place).relative_to(tmp_path) / name) for name in before}
        assert run.set_aside() is None


def test_what_is_superseded_is_kept_in_its_order(tmp_path: Path) -> None:
    """Parts and journals that answer the job no more go into a folder of their own each time, oldest first."""
    run = filled(tmp_path)
    with run.held():
        run.supersede([run.part(1)], [run.journal(2)])
        (tmp_path / "results" / "part-00001.parquet").write_text("again")
        run.supersede([run.part(1)], [])
        first, second = (name for name in run.superseded() if name != "x-0")
        names = [str(getattr(file, "name", file)).rpartition("/")[2] for file in run.superseded_files(first)]
        assert names == ["part-00001.parquet", "journal-00002.jsonl"]
        assert [str(file).rpartition("/")[2] for file in run.superseded_files(second)] == ["part-00001.parquet"]
        assert (run.sealed(), run.open_journals()) == (set(), set())


def test_half_written_files_of_a_dead_writer_are_swept(tmp_path: Path) -> None:
    """Taking the lock removes temporary files, and nothing else."""
    run = filled(tmp_path)
    before = contents(tmp_path)
    for name in (".run.json.tmp", "results/.part-00003.parquet.tmp", ".state/.journal-00001.jsonl.tmp"):
        (tmp_path / name).write_text("half")
    with run.held():
        assert contents(tmp_path) == before


def test_a_dead_holders_name_is_not_the_holders(tmp_path: Path, monkeypatch: Any) -> None:
    """A loser that looks before the new holder has written its name waits for it, and does not name the dead one."""
    first = RunDir(str(tmp_path))
    with first.held():
        file = tmp_path / ".state" / "lock"
        name = file.read_text()
        with subprocess.Popen(["true"]) as dead:
            dead.wait()
        file.write_text(name.replace(f"pid {os.getpid()}", f"pid {dead.pid}"))
        real = time.sleep
        monkeypatch.setattr(module, "_LOCK_PATIENCE_S", -1.0)
        monkeypatch.setattr(module.time, "sleep", lambda seconds: (file.write_text(name), real(seconds)))
        with pytest.raises(JobError, match=rf"pid {os.getpid()},"):
            RunDir(str(tmp_path)).acquire()
