"""Input that can be read only once: standard input (`-`) and pipes. It is copied to a file that lives as long as the
process holds it, and is known by its content, so that the same bytes through the pipe again go on with the run.
"""

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import weakref
from pathlib import Path

import msgspec

from batchrun.errors import JobError

STDIN = "-"
_BLOCK = 1 << 20
_HEADS = {b"PAR1": ("parquet", None), b"\x1f\x8b": ("jsonl", "gzip"), b"\x28\xb5\x2f\xfd": ("jsonl", "zstd")}


class Spooled(msgspec.Struct, frozen=True, weakref=True):
    """What came through a pipe. The copy at `path` is removed with this."""

    name: str
    path: str
    size: int
    stamp: str
    format: tuple[str, str | None]


def is_pipe(path: str) -> bool:
    """Whether a path is standard input or a named pipe (`<(…)` of a shell is one)."""
    if path == STDIN:
        return True
    try:
        return "://" not in path and stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def run_name(path: str) -> str:
    """The name that a run of this input gets: the file's, without what no path may hold."""
    if is_pipe(path):
        return "stdin"  # a shell gives its pipes another number each time
    stem = Path(path).name.partition(".")[0]
    return stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "_") or "run"


def take(path: str) -> Spooled:
    """Read a pipe to its end. Raises JobError where there is none to read, or its format can't be told."""
    name = "stdin" if path == STDIN else path
    if path == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        raise JobError("-: nothing is piped into standard input; write `… | batchrun run -`, or name a file")
    digest, size, head = hashlib.blake2b(digest_size=16), 0, b""
    handle, copy = tempfile.mkstemp(prefix="batchrun-input-")
    try:
        with (
            open(handle, "wb") as file,  # noqa: PTH123
            open(sys.stdin.fileno() if path == STDIN else path, "rb", closefd=path != STDIN) as pipe,
        ):
            while block := pipe.read(_BLOCK):
                head = head or block
                digest.update(block)
                size += len(block)
                file.write(block)
        spooled = Spooled(name, copy, size, digest.hexdigest(), _format(head, name))
    except (OSError, ValueError) as error:
        _remove(copy)
        raise JobError(f"{name}: cannot be read: {error}") from None
    except BaseException:
        _remove(copy)
        raise
    weakref.finalize(spooled, _remove, copy)
    return spooled


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _format(head: bytes, name: str) -> tuple[str, str | None]:
    for start, known in _HEADS.items():
        if head.startswith(start):
            return known
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in (b"{", b"[", b"", b"\xff", b"\xfe", b"\x00"):
        return "jsonl", None
    line = head.partition(b"\n")[0]
    if any(sign in line for sign in b",;\t"):
        return "csv", None
    raise JobError(f"{name}: neither JSON Lines, CSV nor Parquet; write it to a file whose name says what it is")
