"""Writing that survives: files appear whole or not at all, and directories remember them.

A failed write or fsync is a LedgerError: after it the data of that file is not trusted again.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from batchrun.errors import LedgerError

FILE_MODE = 0o600
DIR_MODE = 0o700


@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turns an OSError into a LedgerError that names the file and the mend."""
    try:
        yield
    except OSError as error:
        mends = {
            28: "free some space",
            122: "raise the quota",
            30: "it is mounted read-only",
            13: "check its permissions",
        }
        mend = mends.get(error.errno or 0, "check the disk")
        raise LedgerError(f"{path}: {error.strerror or error}; {mend}, then run the same command again") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving it is synced and renamed over `path`, on an error removed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_faults(path):
        try:
            yield temporary
            temporary.chmod(FILE_MODE)
            sync_file(temporary)
            temporary.replace(path)
            sync_dir(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, and durable on return."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_dir(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_dir(path: Path) -> None:
    """Create a directory (and its parents) that only its owner may read."""
    with disk_faults(path):
        path.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
