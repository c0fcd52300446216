"""A shard's open journal: one line a record (lines.py), written at once and synced in groups by whoever owns it."""

import os
import threading
from pathlib import Path

from batchrun.errors import LedgerError
from batchrun.ledger.durable import FILE_MODE, disk_faults, sync_dir, write_whole
from batchrun.ledger.formats import FORMAT
from batchrun.ledger.lines import Line, sealed_line
from batchrun.ledger.lock import writer
from batchrun.ledger.replay import Replay, replay


def _header(shard: str) -> Line:
    return Line(shard=shard, format=FORMAT, writer=writer())


class Journal:
    """The writer of one journal. `append` writes at once; `sync` makes what was written survive a power loss."""

    def __init__(self, path: Path, shard: str) -> None:
        self.path = path
        self._dirty = False
        self._torn = False
        self._distrusted = False
        self._first_fault = ""  # what is told from then on: it names the remedy
        self._lock = threading.Lock()  # `sync` and `close` come from different threads
        known = path.exists()
        with disk_faults(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
            self._size = os.fstat(self._handle).st_size
        # a file outlives a power loss only when its folder knows it; that it stands there doesn't prove that
        self._known = False
        if not known:
            self.append(_header(shard))

    def append(self, record: Line) -> None:
        """Write one record. Raises LedgerError; where only space was missing (`durable.is_full`) it may be tried again."""
        if self._torn or self._distrusted:
            raise LedgerError(f"{self._first_fault} (nothing more is written to it)")
        line = sealed_line(record)
        try:
            with disk_faults(self.path):
                written = os.write(self._handle, line)
                while written < len(line):
                    written += os.write(self._handle, line[written:])
        except LedgerError:
            self._cut_back()
            raise
        self._size += len(line)
        self._dirty = True

    def _cut_back(self) -> None:
        """Take away the part of a line that a failed write left. If that fails too, nothing may be written behind it."""
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            self._torn = True
            self._first_fault = f"{self.path}: {error.strerror}; check the disk, then run the same command again"

    def sync(self) -> None:
        """Called from any thread; raises LedgerError, after which the run must stop."""
        with self._lock:
            if self._handle < 0 or not self._dirty:
                return
            if self._distrusted:
                raise LedgerError(f"{self._first_fault} (its sync failed: what it holds is not trusted)")
            self._dirty = False
            try:
                with disk_faults(self.path):
                    os.fdatasync(self._handle)
                    if not self._known:
                        sync_dir(self.path.parent)
                        self._known = True
            except LedgerError as error:
                self._first_fault = str(error)
                # the kernel may now call pages clean that never reached the disk: this file is done with
                self._distrusted = self._dirty = True
                raise

    def close(self) -> None:
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


def reopen(path: Path, shard: str) -> tuple[Journal, Replay]:
    """Go on with a journal, or begin one. What an earlier writer left is checked and written again, whole and synced:
    its last sync may have failed, and a page that was read is not yet a page on the disk.
    """
    if not path.exists():
        return Journal(path, shard), Replay(None, {}, {})
    found = replay(path)
    if not found.whole:
        with disk_faults(path):
            path.unlink()
        return Journal(path, shard), found
    write_whole(path, found.whole)
    return Journal(path, shard), found


def rewrite(path: Path, shard: str, lines: list[Line]) -> None:
    """Put a journal of just these records at `path`, whole and durable."""
    write_whole(path, b"".join(map(sealed_line, [_header(shard), *lines])))
