"""Where the files that a run publishes stand: a local folder, or a place on an object store (contract.md §6).

A published file appears whole or not at all, and is durable when it has appeared. Names are relative, with slashes.
What is written again and again (the journal, the lock) is never here: it is local always.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from batchrun.errors import JobError, LedgerError
from batchrun.ledger import durable

_OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss")
_COPY_BLOCK = 8 << 20
_UPLOADS = 3
"""So often an upload is tried: what cuts it short mostly passes."""


class Store(Protocol):
    """One place for published files. `url` names it for people, without credentials."""

    url: str

    def names(self, folder: str) -> list[str]:
        """The names of the files directly in a folder, sorted; empty where there is none."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder, sorted."""

    def exists(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes:
        """A small file's bytes. Raises FileNotFoundError."""

    def opened(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """What pyarrow reads a file from: a path, or an open file."""

    def replacing(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local path to write to; on leaving, the file is published under its name."""

    def move(self, names: Sequence[str], folder: str) -> None:
        """Put files into a folder, each under its last name."""

    def remove(self, names: Sequence[str]) -> None: ...


class Stored(NamedTuple):
    """One published file, there or not."""

    store: Store
    name: str

    def __str__(self) -> str:
        return f"{self.store.url}/{self.name}"

    def exists(self) -> bool:
        return self.store.exists(self.name)

    def read(self) -> bytes:
        return self.store.read(self.name)

    def opened(self) -> contextlib.AbstractContextManager[Any]:
        return self.store.opened(self.name)

    def replacing(self) -> contextlib.AbstractContextManager[Path]:
        return self.store.replacing(self.name)

    def remove(self) -> None:
        self.store.remove([self.name])


def write_whole(target: Stored, data: bytes) -> None:
    """Publish `data`, whole or not at all."""
    with target.replacing() as temporary:
        temporary.write_bytes(data)


class LocalStore:
    """A folder of this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def names(self, folder: str) -> list[str]:
        with self._permitted(folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(path.name for path in (self.root / folder).iterdir() if path.is_file())
        return []

    def folders(self, folder: str) -> list[str]:
        with self._permitted(folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(path.name for path in (self.root / folder).iterdir() if path.is_dir())
        return []

    def exists(self, name: str) -> bool:
        with self._permitted(name):
            return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        with self._permitted(name):
            return (self.root / name).read_bytes()

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        with self._permitted(name):
            (self.root / name).open("rb").close()
        yield self.root / name

    @contextlib.contextmanager
    def _permitted(self, name: str) -> Iterator[None]:
        """A file or folder that is somebody else's is named as that. Raises JobError."""
        try:
            yield
        except PermissionError as error:
            place = error.filename or self.root / name
            raise JobError(f"{place}: cannot be read: {error.strerror}; a run is its owner's alone") from None

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        durable.make_dir((self.root / name).parent)
        with durable.replacing(self.root / name) as temporary:
            yield temporary

    def move(self, names: Sequence[str], folder: str) -> None:
        durable.move([self.root / name for name in names], self.root / folder)

    def remove(self, names: Sequence[str]) -> None:
        durable.remove([self.root / name for name in names])


class ObjectStore:
    """A prefix in a bucket, through a pyarrow filesystem. Files are made in `scratch` and uploaded whole.

    They are never written to the bucket as they grow: pyarrow finishes an upload that an error cut short, and leaves a
    truncated object (apache/arrow #40502).
    """

    def __init__(self, url: str, filesystem: Any, root: str, scratch: Path) -> None:
        self.url = url
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._scratch = scratch

    def names(self, folder: str) -> list[str]:
        return [info.base_name for info in self._listing(folder) if info.is_file]

    def folders(self, folder: str) -> list[str]:
        return [info.base_name for info in self._listing(folder) if not info.is_file]

    def exists(self, name: str) -> bool:
        with self._faults(name):
            return bool(self._filesystem.get_file_info(self._path(name)).is_file)

    def read(self, name: str) -> bytes:
        if not self.exists(name):
            raise FileNotFoundError(f"{self.url}/{name}")
        with self._faults(name), self._filesystem.open_input_stream(self._path(name)) as stream:
            found: bytes = stream.read()
        return found

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        with self._filesystem.open_input_file(self._path(name)) as opened:
            yield opened

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        temporary = self._scratch / f".{name.replace('/', '-')}.tmp"
        try:
            with durable.disk_faults(temporary):
                durable.create(temporary)
                yield temporary
            self._upload(temporary, name)
        finally:
            temporary.unlink(missing_ok=True)

    def move(self, names: Sequence[str], folder: str) -> None:
        for name in names:
            with self._faults(name):
                self._filesystem.move(self._path(name), self._path(f"{folder}/{name.rpartition('/')[2]}"))

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            if self.exists(name):
                with self._faults(name):
                    self._filesystem.delete_file(self._path(name))

    def _upload(self, local: Path, name: str) -> None:
        import tenacity  # late: only what stands in a bucket needs it

        with self._faults(name):
            for attempt in tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(OSError),
                stop=tenacity.stop_after_attempt(_UPLOADS),
                wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
                reraise=True,
            ):
                with attempt:
                    self._upload_once(local, self._path(name))

    def _upload_once(self, local: Path, path: str) -> None:
        try:
            with local.open("rb") as source, self._filesystem.open_output_stream(path) as target:
                shutil.copyfileobj(source, target, _COPY_BLOCK)
            if self._filesystem.get_file_info(path).size != local.stat().st_size:
                raise OSError("the upload arrived with another size")
        except OSError:
            # whatever arrived is not the file
            with contextlib.suppress(OSError):
                self._filesystem.delete_file(path)
            raise

    def _listing(self, folder: str) -> list[Any]:
        from pyarrow.fs import FileSelector

        with self._faults(folder):
            found = self._filesystem.get_file_info(FileSelector(self._path(folder), allow_not_found=True))
        return sorted(found, key=lambda info: str(info.base_name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _faults(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f"{self.url}/{name}: {one_line(error)}; check the bucket and the credentials, then run the same "
                "command again"
            ) from error


def is_url(path: str) -> bool:
    return "://" in path


def is_object_url(path: str) -> bool:
    """Whether it is the URL of an object store that a run can stand in."""
    return is_url(path) and urlsplit(path).scheme in _OBJECT_STORES


def shown_url(url: str) -> str:
    """A URL without user, password and query: an S3 URL may carry credentials in either."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")


def object_store(url: str, scratch: Path) -> ObjectStore:
    """The store behind an object store's URL. Raises JobError where the URL can't be understood."""
    from pyarrow import fs

    shown = shown_url(url)
    if urlsplit(url).scheme not in _OBJECT_STORES:
        known = ", ".join(f"{scheme}://" for scheme in _OBJECT_STORES)
        raise JobError(f"{shown}: an output is a local folder or one of {known}")
    try:
        filesystem, root = fs.FileSystem.from_uri(url)
    except (OSError, ValueError) as error:
        raise JobError(f"{shown}: cannot be opened: {one_line(error)}") from None
    return ObjectStore(shown, filesystem, root, scratch)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
