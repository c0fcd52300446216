"""A disk that forgets: from a trace of a run, what may be left of its directory when the power fails.

The model is the least that POSIX promises. A file has the bytes that it had at its last sync, none before the first; a
folder has the names that it had at its last sync, or any later ones, each folder for itself. After a sync that failed
the system may call clean what never reached the disk: a later sync of that file proves nothing, one of that folder only
if a name in it has changed since.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,link,unlink,rmdir,mkdir,ftruncate"
OTHERS = "open,creat,writev,pwritev,renameat,renameat2,unlinkat,mkdirat,truncate,linkat,copy_file_range,sendfile"
OPTIONS = ("-y", "-s", "10000000", "-e", "trace=" + ",".join("?" + one for one in (CALLS + "," + OTHERS).split(",")))
LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
FILE = re.compile(r"^\d+<([^>]*)>")


class File:
    """What was written, and how much of it would survive."""

    def __init__(self) -> None:
        self.data = b""
        self.durable = b""
        self.lost = False


Names = dict[str, File | None]
"""Names in a folder, or paths on a disk; None is a folder."""


class Disk:
    """The folder `root` and all below it, call by call. Paths are relative to it; "" is itself."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self.folders: dict[str, Names] = {"": {}}
        self._durable: dict[str, Names] = {"": {}}
        self._clean: set[str] = set()  # whose last sync failed, and that have not changed since

    def load(self) -> None:
        """Begin with what stands there, all of it durable."""
        root = Path(self._root)
        for path in sorted(root.rglob("*")):
            folder, _, name = str(path.relative_to(root)).rpartition("/")
            file = None if path.is_dir() else File()
            if file is None:
                self.folders[f"{folder}/{name}".lstrip("/")] = {}
            else:
                file.data = file.durable = path.read_bytes()
            self.folders[folder][name] = file
        self._durable = {folder: dict(names) for folder, names in self.folders.items()}

    def fail(self, rest: str) -> None:
        """A sync that failed."""
        handle = FILE.match(rest)
        if handle is not None and handle[1].startswith(self._root):
            path = handle[1].removeprefix(self._root)
            if path in self.folders:
                self._clean.add(path)
            else:
                self._file(path).lost = True

    def apply(self, kind: str, rest: str) -> bool:
        """One call that succeeded; False where it touched nothing here."""
        handle = FILE.match(rest)
        strings = [_bytes(text) for text in STRING.findall(rest)]
        places = [handle[1]] if handle is not None else [text.decode("utf-8", "replace") for text in strings]
        paths = [place.removeprefix(self._root) for place in places if place.startswith(self._root)]
        if not paths and not (handle is not None and handle[1] + "/" == self._root):
            return False
        assert kind in CALLS.split(","), f"the model does not know {kind}"
        self._act(kind, paths, rest, strings[0] if handle is not None and strings else b"")
        return True

    def _act(self, kind: str, paths: list[str], rest: str, data: bytes) -> None:
        path = paths[0] if paths else ""
        folder, _, name = path.rpartition("/")
        if kind in ("mkdir", "openat", "rename", "unlink", "rmdir"):
            self._clean.discard(folder)
        if kind == "mkdir":
            self.folders[folder][name] = None
            self.folders[path], self._durable[path] = {}, {}
        elif kind == "openat":
            if name not in self.folders[folder] and "O_CREAT" in rest:
                self.folders[folder][name] = File()
            elif "O_TRUNC" in rest and self.folders[folder][name] is not None:
                self._file(path).data = b""
        elif kind == "rename":
            to, _, new = paths[1].rpartition("/")
            self._clean.discard(to)
            self.folders[to][new] = self.folders[folder].pop(name)
        elif kind == "link":
            to, _, new = paths[1].rpartition("/")
            self._clean.discard(to)
            self.folders[to][new] = self.folders[folder][name]
        elif kind in ("unlink", "rmdir"):
            del self.folders[folder][name]
        elif kind in ("fsync", "fdatasync"):
            if path not in self.folders:
                if not self._file(path).lost:
                    self._file(path).durable = self._file(path).data
            elif path not in self._clean:
                self._durable[path] = dict(self.folders[path])
        else:
            self._write(self._file(path), kind, rest, data)

    @staticmethod
    def _write(file: File, kind: str, rest: str, data: bytes) -> None:
        number = int(rest.rpartition(", ")[2])
        if kind == "write":
            file.data += data  # every writer here writes a file from its beginning to its end
        elif kind == "ftruncate":
            file.data = file.data[:number]
        else:
            file.data = file.data[:number].ljust(number, b"\0") + data + file.data[number + len(data) :]

    def _file(self, path: str) -> File:
        folder, _, name = path.rpartition("/")
        found = self.folders[folder][name]
        assert found is not None
        return found

    def after_power_loss(self, remembered: Sequence[str]) -> dict[str, bytes | None]:
        """What is left, by path, when of these folders all names got to the disk, and of the others the synced ones."""
        left: dict[str, bytes | None] = {}
        todo = [""]
        while todo:
            folder = todo.pop()
            for name, file in (self.folders if folder in remembered else self._durable)[folder].items():
                path = f"{folder}/{name}" if folder else name
                left[path] = None if file is None else file.durable
                if file is None:
                    todo.append(path)
        return left


def replayed(disk: Disk, trace: str) -> Iterator[str]:
    """Follow a trace of strace -f; yields after each call that the disk has seen, how it is to be shown."""
    for kind, rest, succeeded in _calls(trace):
        if succeeded:
            if disk.apply(kind, rest):
                yield f"{kind}({rest[:90]}"
        elif kind in ("fsync", "fdatasync"):
            disk.fail(rest)


def _calls(trace: str) -> Iterator[tuple[str, str, bool]]:
    """The calls that ended, in the order in which they did, as (name, arguments, whether it succeeded)."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        matched = LINE.match(line)
        if matched is None:
            continue
        thread, text = matched.groups()
        if text.endswith(" <unfinished ...>"):
            begun[thread] = text.removesuffix(" <unfinished ...>")
            continue
        if text.startswith("<... "):
            text = begun.pop(thread) + text.partition(" resumed>")[2]
        call = CALL.match(text)
        if call is not None and call[3] != "?":
            yield call[1], call[2], not call[3].startswith("-")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")
