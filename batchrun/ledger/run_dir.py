"""The run directory: its layout, its lock (one writer), its manifest, and setting an old run aside (contract.md §6, §7.8)."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.durable import FILE_MODE, disk_faults, make_dir, sync_dir, write_whole

_STATE = ".state"


class Counts(msgspec.Struct, frozen=True):
    """Where a run stands."""

    requests: int = 0
    ok: int = 0
    failed: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """run.json. `requests` is the fingerprint of all that shapes a request's body; `input` names the files and their
    stamps; times are RFC 3339, UTC.
    """

    state: str
    batchrun: str
    job: dict[str, Any]
    input: list[dict[str, Any]]
    requests: str
    started_at: str
    finished_at: str | None = None
    message: str | None = None
    counts: Counts = Counts()
    versions: dict[str, str] = {}


class RunDir:
    """The paths of one run, and the lock while it is held."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.state = self.path / _STATE
        self.parts = self.path / "results"
        self.results = self.path / "results.parquet"
        self.summary = self.path / "cost_summary.parquet"
        self.manifest_path = self.path / "run.json"
        self.inventory = self.state / "inventory.json"
        self.superseded = self.state / "superseded"
        self._lock = -1

    def part(self, number: int) -> Path:
        return self.parts / f"part-{number:05d}.parquet"

    def journal(self, number: int) -> Path:
        return self.state / f"journal-{number:05d}.jsonl"

    def sealed(self) -> set[int]:
        """The numbers of the shards that have a part."""
        return {int(path.stem.removeprefix("part-")) for path in self.parts.glob("part-*.parquet")}

    def open_journals(self) -> set[int]:
        return {int(path.stem.removeprefix("journal-")) for path in self.state.glob("journal-*.jsonl")}

    def acquire(self) -> None:
        """Create the directory and take the lock. Raises JobError naming the holder, or what can't be written."""
        try:
            make_dir(self.path)
            make_dir(self.state)
            make_dir(self.parts)
            with disk_faults(self.state):
                handle = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except LedgerError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else str(error)
            raise JobError(
                f"{self.path}: the output cannot be written there: {reason}; give another place with -o"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(handle)
            raise JobError(
                f"{self.path}: a run is under way there ({holder}); wait for it, or choose another -o"
            ) from None
        if os.fstat(handle).st_ino != (self.state / "lock").stat().st_ino:
            os.close(handle)
            raise JobError(f"{self.path}: another run has just begun or ended there; run the same command again")
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"host {socket.gethostname()}, pid {os.getpid()}, since {since}\n".encode(), 0)
        self._lock = handle

    def locked_by_another(self) -> bool:
        """Whether a run is under way, asked without taking the lock for longer than the question."""
        try:
            handle = os.open(self.state / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for as long as this lasts. Raises JobError where another holds it."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def result_files(self) -> list[Path]:
        """Where the results are: results.parquet, or the parts in order."""
        return [self.results] if self.results.exists() else [self.part(number) for number in sorted(self.sealed())]

    def drop_parts(self) -> None:
        """Remove the parts, once results.parquet and a manifest that says complete are durable."""
        for number in self.sealed():
            self.part(number).unlink()
        with contextlib.suppress(OSError):
            self.parts.rmdir()

    def release(self) -> None:
        if self._lock >= 0:
            if not self.manifest_path.exists():
                self._vanish()
            os.close(self._lock)
            self._lock = -1

    def _vanish(self) -> None:
        """Nothing was begun (a fault in the job or its input): leave no empty folders behind."""
        with contextlib.suppress(OSError):
            if {path.name for path in self.state.iterdir()} == {"lock"} and not any(self.parts.iterdir()):
                self.parts.rmdir()
                (self.state / "lock").unlink()
                self.state.rmdir()
                self.path.rmdir()

    def read_manifest(self) -> Manifest | None:
        """The manifest, or None where there is no run yet. Raises JobError where it can't be understood."""
        try:
            data = self.manifest_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JobError(f"{self.manifest_path}: {error.strerror}") from None
        try:
            return msgspec.json.decode(data, type=Manifest)
        except msgspec.DecodeError as error:
            raise JobError(f"{self.manifest_path}: not a run's manifest ({error}); start over with --fresh") from None

    def write_manifest(self, manifest: Manifest) -> None:
        write_whole(self.manifest_path, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")

    def set_aside(self) -> Path | None:
        """Move everything of an earlier run into a folder of its own; None where there was nothing."""
        found = [self.results, self.summary, self.manifest_path, self.parts]
        found += [path for path in self.state.iterdir() if path.name != "lock"]
        found = [path for path in found if path.exists() and (not path.is_dir() or any(path.iterdir()))]
        if not found:
            return None
        target = _new_dir(self.path / "set-aside")
        for path in found:
            path.rename(target / path.name)
        sync_dir(target)
        sync_dir(self.path)
        make_dir(self.parts)
        return target

    def supersede(self, paths: list[Path]) -> None:
        """Set files that no longer answer the job aside; their answers may still be drawn upon."""
        if not paths:
            return
        target = _new_dir(self.superseded)
        for path in paths:
            path.rename(target / path.name)
        sync_dir(target)
        sync_dir(self.state)


def _new_dir(parent: Path) -> Path:
    make_dir(parent)
    stem = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    number = 0
    while True:
        target = parent / (f"{stem}-{number}" if number else stem)
        try:
            target.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return target
