"""A shard's open journal: one JSON line a record, each with its checksum; text that jq reads.

Records are a header, `sent` before an attempt goes on the wire, `lost` when it failed, and `result`. A torn last line
is dropped with a note; a broken line elsewhere is an error that names the file and the line. Lines are written at once
and synced in groups by whoever owns the journal.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchrun.errors import LedgerError
from batchrun.ledger.durable import FILE_MODE, disk_faults, sync_dir, write_whole
from batchrun.records import Result

Key = tuple[int, str, int]


class Tally(msgspec.Struct):
    """The attempts of one request: sent, failed with nothing billed or billed for sure, failed with the answer lost."""

    sent: int = 0
    failed: int = 0
    unconfirmed: int = 0

    @property
    def under_way(self) -> int:
        return self.sent - self.failed - self.unconfirmed


class Line(msgspec.Struct, omit_defaults=True):
    """One record; exactly one of the fields is set. `sent` is [row, variant, sample], `lost` adds unconfirmed 0 or 1."""

    shard: str | None = None
    sent: Key | None = None
    lost: tuple[int, str, int, int] | None = None
    result: Result | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode
_MARK = b',"crc":"'


def sealed_line(record: Line) -> bytes:
    """A record as its line: JSON whose last field is the CRC-32 of everything before it."""
    text = _encode(record)[:-1]
    return b'%b%b%08x"}\n' % (text, _MARK, zlib.crc32(text))


def opened_line(line: bytes) -> Line | None:
    """The record in a line without its newline; None where the line is damaged."""
    text, mark, crc = line.rpartition(_MARK)
    if not mark or crc != b'%08x"}' % zlib.crc32(text):
        return None
    try:
        return _decode(text + b"}")
    except msgspec.DecodeError:
        return None


class Replay(msgspec.Struct):
    """What a journal holds: results and attempts by request key, and whether a torn tail was cut off."""

    shard: str | None
    results: dict[Key, Result]
    tallies: dict[Key, Tally]
    torn: bool = False
    whole_bytes: int = 0

    def in_flight(self) -> dict[Key, int]:
        """Attempts that were sent and never heard of again, by request: those under way when the writer died."""
        return {
            key: tally.under_way for key, tally in self.tallies.items() if key not in self.results and tally.under_way
        }


def replay(path: Path) -> Replay:
    """Read a journal. Raises LedgerError for damage anywhere but in an unfinished last line."""
    with disk_faults(path):
        data = path.read_bytes()
    found = Replay(None, {}, {})
    start = 0
    number = 0
    while start < len(data):
        end = data.find(b"\n", start)
        line = data[start:] if end < 0 else data[start:end]
        record = opened_line(line) if end >= 0 else None
        number += 1
        if record is None:
            if end >= 0:
                raise LedgerError(
                    f"{path}:{number}: this record is damaged (its checksum is wrong). Set the file aside, under another "
                    "name, and run the same command again: the requests in it are asked anew"
                )
            found.torn = True
            break
        start = end + 1
        found.whole_bytes = start
        _apply(found, record)
    return found


def _apply(found: Replay, record: Line) -> None:
    if record.result is not None:
        found.results[record.result.key] = record.result
    elif record.sent is not None:
        found.tallies.setdefault(record.sent, Tally()).sent += 1
    elif record.lost is not None:
        tally = found.tallies.setdefault(record.lost[:3], Tally())
        if record.lost[3]:
            tally.unconfirmed += 1
        else:
            tally.failed += 1
    elif record.shard is not None:
        found.shard = record.shard


class Journal:
    """The writer of one journal. `append` writes at once; `sync` makes what was written survive a power loss."""

    def __init__(self, path: Path, shard: str) -> None:
        self.path = path
        self._dirty = False
        self._failed = False
        self._known = path.exists()
        with disk_faults(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        if not self._known:
            self.append(Line(shard=shard))

    def append(self, record: Line) -> None:
        if self._failed:
            raise LedgerError(f"{self.path}: an earlier write or sync failed; nothing more is written to it")
        line = sealed_line(record)
        # a part of a line may be on the disk: only the next writer, who checks it all, may go on behind it
        self._failed = True
        with disk_faults(self.path):
            written = os.write(self._handle, line)
            while written < len(line):
                written += os.write(self._handle, line[written:])
        self._failed = False
        self._dirty = True

    def sync(self) -> None:
        """Called from a thread; raises LedgerError, after which the run must stop."""
        if self._dirty:
            self._dirty = False
            with disk_faults(self.path), self._final():
                os.fdatasync(self._handle)
                if not self._known:
                    # a new file outlives a power loss only when its folder does know it
                    sync_dir(self.path.parent)
                    self._known = True

    @contextlib.contextmanager
    def _final(self) -> Iterator[None]:
        """After a failed sync the kernel may call pages clean that never reached the disk: this file is done with."""
        try:
            yield
        except OSError:
            self._failed = True
            raise

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def reopen(path: Path, shard: str) -> tuple[Journal, Replay]:
    """Go on with a journal, or begin one. What an earlier writer left is checked and written anew, whole and synced:
    its last sync may have failed, and a page that was read is not yet a page on the disk.
    """
    if not path.exists():
        return Journal(path, shard), Replay(None, {}, {})
    found = replay(path)
    if found.whole_bytes == 0:
        path.unlink()
        return Journal(path, shard), found
    with disk_faults(path):
        data = path.read_bytes()[: found.whole_bytes]
    write_whole(path, data)
    return Journal(path, shard), found
