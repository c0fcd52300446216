"""log.jsonl: what happened in a run, and when. A listener to its events that writes a JSON line for what a person may ask about
in the morning, and nothing for each request.

It never raises and never ends a run: what can't be written is left out. It holds no more than MOST_BYTES twice. Messages come
from the events, which hold no key.
"""

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchrun.ledger.durable import FILE_MODE
from batchrun.ledger.run_dir import RunDir
from batchrun.report.teller import Teller

MOST_BYTES = 2 << 20
_LONGEST = 500
_OLDER = "log-older.jsonl"


class Log:
    """The writer, one for each call of a run. Times are this machine's, with their zone (RFC 3339)."""

    def __init__(self, run_dir: RunDir, now: Callable[[], float] = time.time, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._older = run_dir.log, run_dir.state / _OLDER
        self._most_bytes = most_bytes
        self.hear = Teller(self._write, now).hear

    def _write(self, told: dict[str, Any]) -> None:
        said = {name: _short(value) if isinstance(value, str) else value for name, value in told.items()}
        with contextlib.suppress(OSError, ValueError):
            self._append(msgspec.json.encode(said) + b"\n")

    def _append(self, line: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(line) > self._most_bytes:
                self._path.replace(self._older)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # by a disk that was full, or a crash
            os.write(handle, b"\n" + line if torn else line)
        finally:
            os.close(handle)


def records(run_dir: RunDir) -> Iterator[dict[str, Any]]:
    """What the log of a run says, oldest first; lines that were torn are left out."""
    for path in (run_dir.state / _OLDER, run_dir.log):
        with contextlib.suppress(FileNotFoundError):
            yield from _in(path.read_bytes())


def following(run_dir: RunDir, is_over: Callable[[], bool], sleep: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """The records there are and then those that come, until `is_over` and nothing is left. `sleep` is called between looks."""
    older = run_dir.state / _OLDER
    with contextlib.suppress(FileNotFoundError):
        yield from _in(older.read_bytes())
    place = inode = 0
    while True:
        last = is_over()  # asked before the look: what was written until then is still told
        size, here = _end(run_dir.log)
        if inode and here != inode:
            yield from _in(_from(older, place))
            place = 0
        inode = here
        if size > place:
            whole = _from(run_dir.log, place)
            place += len(whole)
            yield from _in(whole)
        if last:
            return
        sleep()


def _from(path: Path, place: int) -> bytes:
    """The whole lines of a file from a place on."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(place)
        data = file.read()
        return data[: data.rfind(b"\n") + 1]
    return b""


def _end(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_ino


def _in(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            if isinstance(found := msgspec.json.decode(line), dict) and isinstance(found.get("at"), str):
                datetime.datetime.fromisoformat(found["at"])
                yield found


def _short(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"
