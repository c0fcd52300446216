"""Writing that survives: files appear whole or not at all, and their directories remember them.

A failed write or sync is a LedgerError: after it the data of that file is not trusted again. A name is durable only
when the directory that holds it was synced too; a rename touches two. What an earlier writer left is seen, and not
therefore durable: it may have died before a sync, or in one that failed. `renew` makes it so.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from batchrun.errors import LedgerError

FILE_MODE = 0o600
DIR_MODE = 0o700
SHARED_MODE = 0o666
"""What is made for others: a program leaves it to the umask who may read it."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNSYNCABLE = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What network and user-space filesystems say that know no sync of a directory."""
_UNLINKABLE = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EISDIR})
"""What filesystems say that know no second name of a file, and all of them of a folder."""
_MARK = b',"crc":"'
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "raise the quota or free some space",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EROFS: "it is mounted read-only",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


@contextlib.contextmanager
def disk_faults(path: object) -> Iterator[None]:
    """Turns an OSError into a LedgerError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0, "check the disk")
        raise LedgerError(f"{path}: {reason}; {remedy}, then run the same command again") from error


def is_full(error: LedgerError) -> bool:
    """Whether a LedgerError means that no space is left: the data before it is fine."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL


@contextlib.contextmanager
def replacing(path: Path, mode: int = FILE_MODE) -> Iterator[Path]:
    """A temporary path beside `path`; on leaving it is synced and renamed over `path`, on an error removed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_faults(path):
        try:
            create(temporary, mode)
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
            sync_dir(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def create(path: Path, mode: int = FILE_MODE) -> None:
    """An empty file that only its owner may read, from its first byte on; or who `mode`, less the umask, lets."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode))


def sweep(folder: Path) -> None:
    """Remove what a writer that died left half-written in a folder."""
    with contextlib.suppress(OSError):
        for path in (*folder.glob(".*.tmp"), *folder.glob("reserve*")):
            path.unlink()


def with_checksum(text: bytes) -> bytes:
    """A JSON object with its CRC-32 as a last field, `crc`."""
    return b'%b%b%08x"}' % (text[:-1], _MARK, zlib.crc32(text[:-1]))


def without_checksum(text: bytes) -> bytes | None:
    """The JSON object again; None where it is not what the checksum was made of."""
    body, mark, crc = text.rpartition(_MARK)
    if not mark or crc != b'%08x"}' % zlib.crc32(body):
        return None
    return body + b"}"


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
    """Make the names in a directory durable, where its filesystem can and its permissions let us."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
    finally:
        os.close(handle)


def make_dir(path: Path) -> None:
    """Create a directory (and its parents) that only its owner may read, each known to its parent on the disk."""
    with disk_faults(path):
        if path.is_dir():
            return
        if path.parent != path:
            make_dir(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=DIR_MODE)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            sync_dir(path.parent)
        except OSError:
            with contextlib.suppress(OSError):  # where it stands, nobody would sync it again
                path.rmdir()
            raise


def renew(folders: Iterable[Path]) -> None:
    """Make the names in folders durable, one folder after the other, whatever became of their earlier syncs.

    A name is made in each and taken away first: after a sync that failed, the kernel may hold a folder for clean that
    never reached the disk; one that has changed it must write.
    """
    for folder in folders:
        with disk_faults(folder):
            mark = folder / ".renewed.tmp"
            create(mark)
            mark.unlink()
            sync_dir(folder)


def sync_parents(path: Path) -> None:
    """Make the name of a directory durable, and those of its parents on the same disk: whoever made them may have died
    before that.
    """
    path = path.absolute()
    device = path.stat().st_dev
    for parent in path.parents:
        with disk_faults(parent):
            if parent.stat().st_dev != device:
                return
            sync_dir(parent)


def move(paths: list[Path], folder: Path) -> None:
    """Put files into a folder, durably. They stand there before they are taken away here: a rename that touches two
    folders may reach the disk in one of them alone. A move that is cut short leaves one file in two places.
    """
    make_dir(folder)
    with disk_faults(folder):
        for path in paths:
            try:
                os.link(path, folder / path.name)
            except OSError as error:
                if error.errno not in _UNLINKABLE:
                    raise
                path.rename(folder / path.name)
        sync_dir(folder)
        for path in paths:
            path.unlink(missing_ok=True)
        for touched in {path.parent: None for path in paths}:
            sync_dir(touched)


def finish_moves(targets: Iterable[Path], sources: Sequence[Path]) -> None:
    """What stands in one of the targets is taken away where it stands in a source still."""
    for target in targets:
        with disk_faults(target):
            moved = [path for path in target.iterdir() if path.is_file() and path.stat().st_nlink > 1]
            for path in moved:
                sync_dir(target)
                for twin in (source / path.name for source in sources):
                    if twin.exists() and twin.samefile(path):
                        twin.unlink()


def remove(paths: list[Path]) -> None:
    """Remove files, durably; one that is gone already is no fault."""
    discard(paths)
    for folder in {path.parent for path in paths}:
        with disk_faults(folder):
            sync_dir(folder)


def discard(paths: list[Path]) -> None:
    """Remove files that do no harm if a power loss brings them back."""
    for path in paths:
        with disk_faults(path):
            path.unlink(missing_ok=True)


class Reserve:
    """Some space held back, to be let go when the disk is full: what is in flight then can still be written down."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._held = False
        with disk_faults(path):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                os.posix_fallocate(handle, 0, size)
                self._held = True
            except OSError as error:
                if error.errno in FULL:
                    raise
                # a filesystem that can't set space aside: there is no reserve
            except AttributeError:
                pass  # nor on macOS
            finally:
                os.close(handle)

    def release(self) -> bool:
        """Let the space go; False where there was none to let go."""
        held, self._held = self._held, False
        with contextlib.suppress(OSError):
            self._path.unlink()
        return held
