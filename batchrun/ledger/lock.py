"""One writer: a lock that dies with its process, and says who holds it (contract.md §7.8).

It works between containers and machines that share a filesystem, as far as that filesystem has locks; one that has none is
refused.
"""

import fcntl
import os
import re
import socket
import time
from pathlib import Path

from batchrun.errors import JobError
from batchrun.ledger.durable import disk_faults

_LOCK_PATIENCE_S = 0.05
_NAMING_PATIENCE_S = 2.0
_HOLDER_BYTES = 400


def writer() -> str:
    """The name of this process, for files of which each writer has its own."""
    return f"{socket.gethostname()}-{os.getpid()}"


def take(handle: int, path: Path, shown: str) -> None:
    """Lock an open file, and write into it who holds it. Raises JobError that names the holder.

    `path` is the file's, `shown` names for people what is locked.
    """
    _lock(handle, path, shown)
    if not _same_file(handle, path):
        raise JobError(f"{shown}: another run has just begun or ended there; run the same command again")
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    with disk_faults(path):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"host {socket.gethostname()}, pid {os.getpid()}, since {since}\n".encode(), 0)


def say(handle: int, text: str) -> None:
    """Write beneath the holder's name what it waits for. Whoever asks reads it with `said`; the next holder clears it."""
    holder = os.pread(handle, _HOLDER_BYTES, 0).partition(b"\n")[0]
    written = holder + b"\n" + text.replace("\n", " ").encode("utf-8", "replace") + b"\n"
    os.pwrite(handle, written, 0)
    os.ftruncate(handle, len(written))


def said(path: Path) -> str:
    """What the holder of a lock waits for, empty where it says nothing."""
    try:
        return path.read_text("utf-8", "replace").partition("\n")[2].partition("\n")[0]
    except OSError:
        return ""


def holder(path: Path) -> str:
    """Who holds a lock, or held it last; empty where nobody is known."""
    try:
        return path.read_text("utf-8", "replace").partition("\n")[0]
    except OSError:
        return ""


def _lock(handle: int, path: Path, shown: str) -> None:
    """Lock it. Another's look at it (`status`) takes a moment to pass, so one try is not enough; nor is one look at
    who holds it, where that one has only just begun and the name there is still a dead one's.
    """
    patience = time.monotonic() + _LOCK_PATIENCE_S
    naming = time.monotonic() + _NAMING_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(handle, _HOLDER_BYTES, 0).decode("utf-8", "replace").partition("\n")[0]
            now = time.monotonic()
            if now > patience and (_may_live(holder) or now > naming):
                raise JobError(
                    f"{shown}: a run is under way there ({holder or 'another process'}); wait for it, or choose "
                    "another -o"
                ) from None
            time.sleep(0.005)
        except OSError as error:
            raise JobError(
                f"{path.parent}: its filesystem has no locks ({error.strerror}), so two runs there could not be told "
                "apart; give another place with -o"
            ) from None


def is_held(path: Path) -> bool:
    """Whether a lock is held, asked without taking it for longer than the question."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _may_live(holder: str) -> bool:
    """Whether the process that a lock names may be alive: one of this machine's is asked for."""
    found = re.match(r"host (\S+), pid (\d+),", holder)
    if found is None:
        return False
    if found[1] != socket.gethostname():
        return True
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
