"""What stands below a folder, and which of it a path, a glob or a folder means as input.

Each file once, however many links lead to it; never the files of a run directory, nor those that tools put beside data.
Folders named `key=value` give their files columns. Looks at names and sizes, never into a file.
"""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from batchrun.errors import JobError

_MAGIC = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_SHOWN = r"(?![.])(?!_(?![^/]*=))"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_RESULTS = ("results.parquet", "cost_summary.parquet", ".state")
_SIDECARS = frozenset(
    {
        *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"),
        *("run.json", "cost_summary.parquet", "metadata.json", "manifest.json", "package.json"),
    }
)
"""Files that tools put beside data: Hugging Face datasets' descriptions, our own manifest and bill."""


class Entry(msgspec.Struct, frozen=True):
    """One file below a root. `below` is its path from there, `stamp` changes when the file does, `node` is the same for two
    links to one file.
    """

    path: str
    below: str
    size: int
    stamp: str
    node: Any = None


class Pattern:
    """A glob as `root`, the folder that it starts from, and what it takes below. `**` stands for any number of folders,
    none included; `*`, `?` and `[…]` never for a slash, nor for a leading `.` or `_`.
    """

    def __init__(self, path: str) -> None:
        parts = path.split("/")
        start = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
        self.root = "/".join(parts[:start]) or "/"
        self.parts = [*parts[start:], "*"] if parts[-1] == "**" else parts[start:]
        self.deep = "**" in self.parts
        self._fullmatch = re.compile("".join(map(self._regex, range(len(self.parts))))).fullmatch

    @property
    def depth(self) -> int | None:
        """How many folders deep it reaches, None for any number."""
        return None if self.deep else len(self.parts)

    @property
    def names_files(self) -> bool:
        """Whether its last part is a plain name, so that whatever it finds is meant."""
        return _MAGIC.search(self.parts[-1]) is None

    @property
    def names_json(self) -> bool:
        return self.parts[-1].lower().endswith(".json")

    def takes(self, below: str) -> bool:
        return self._fullmatch(below) is not None

    def _regex(self, number: int) -> str:
        part, end = self.parts[number], "" if number == len(self.parts) - 1 else "/"
        if part == "**":
            return rf"(?:{_SHOWN}[^/]+/)*"
        shown = "" if part[:1] in "._" else _SHOWN
        return shown + _TOKEN.sub(_token, part) + end


def _token(found: re.Match[str]) -> str:
    """The regular expression of one sign of a glob's part."""
    sign = found[0]
    if sign in ("*", "?"):
        return "[^/]*" if sign == "*" else "[^/]"
    if len(sign) > 1:
        inner = sign[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
        return f"(?!/)[^{inner[1:]}]" if inner[0] == "!" else f"[{inner}]"
    return re.escape(sign)


def is_glob(path: str) -> bool:
    return _MAGIC.search(path) is not None


def local_entries(root: str, depth: int | None, wanted: Any) -> Iterator[Entry]:
    """Everything below a local folder whose name is `wanted`, real folders before linked ones, each folder once. A link
    to nothing is a JobError.
    """
    seen: set[tuple[int, int]] = set()
    linked: list[tuple[str, str, int]] = []
    queue = [(root, "", 1)]
    while queue or linked:
        folder, below, level = queue.pop() if queue else linked.pop(0)
        found = os.stat(folder)  # noqa: PTH116 - names may be no text, which os takes as they are
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                name = below + entry.name
                if entry.is_dir():
                    if entry.name == ".state":
                        yield Entry(entry.path, name, 0, "")
                    elif depth is None or level < depth:
                        (linked if entry.is_symlink() else queue).append((entry.path, name + "/", level + 1))
                elif not wanted(entry.name):
                    continue
                elif entry.is_file():
                    yield local_entry(entry.path, name)
                elif entry.is_symlink():
                    raise JobError(
                        f"{shown_name(entry.path)}: a link to a file that is not there; restore or remove it"
                    )


def local_entry(path: str, below: str) -> Entry:
    found = os.stat(path)  # noqa: PTH116
    # an inode tells a replaced file from the old one
    stamp = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"
    return Entry(path, below, found.st_size, stamp, (found.st_dev, found.st_ino))


def remote_entries(filesystem: Any, root: str, depth: int | None, wanted: Any) -> Iterator[Entry]:
    """The same below a folder of any pyarrow filesystem."""
    from pyarrow import fs

    selector = fs.FileSelector(root, allow_not_found=True, recursive=depth is None or depth > 1)
    for info in filesystem.get_file_info(selector):
        if info.is_file and wanted(info.base_name):
            yield remote_entry(info, info.path[len(root.rstrip("/")) + 1 :])


def remote_entry(info: Any, below: str) -> Entry:
    return Entry(info.path, below, info.size, f"{info.size}:{info.mtime_ns}")


def chosen(entries: list[Entry], pattern: Pattern | None, where: str, notes: list[str]) -> list[Entry]:
    """Which entries are meant, in order of their paths. What is left out, though it looks like input, is noted. Raises
    JobError for a folder that is a run directory.
    """
    runs = _run_folders(entries)
    if pattern is None and "" in runs:
        raise JobError(
            f"{where}: a run directory, not an input; to read its results name {where.rstrip('/')}/results.parquet"
        )
    skips_runs = pattern is None or (pattern.deep and not pattern.names_files)
    kept: dict[Any, Entry] = {}
    plain = pattern if pattern is not None else Pattern("**")
    for entry in sorted(entries, key=lambda one: (os.path.islink(one.path), one.path)):  # noqa: PTH114
        if not plain.takes(entry.below) or entry.stamp == "":
            continue
        if entry.below.rpartition("/")[2] in _SIDECARS and not plain.names_files:
            continue
        inside = next((run for run in runs if entry.below.startswith(run)), None) if skips_runs else None
        if inside is not None:
            notes.append(f"left out: {shown_name(inside.rstrip('/'))}, a run directory")
        elif (first := kept.setdefault(entry.node or entry.path, entry)) is not entry:
            notes.append(f"left out: {shown_name(entry.below)}, the same file as {shown_name(first.below)}")
    found = sorted(kept.values(), key=lambda one: one.path)
    return found if plain.names_json else _without_loose_json(found, notes)


def _run_folders(entries: list[Entry]) -> set[str]:
    """The folders, as prefixes, that are run directories: a manifest, and state or results beside it."""
    names = {entry.below for entry in entries}
    folders = {name.removesuffix("run.json") for name in names if name.rpartition("/")[2] == "run.json"}
    found = set()
    for folder in folders:
        parts = folder + "results/part-"
        if any(folder + name in names for name in _RESULTS) or any(name.startswith(parts) for name in names):
            found.add(folder)
    return found


def _without_loose_json(found: list[Entry], notes: list[str]) -> list[Entry]:
    """Where files of a sure kind are, a .json beside them is a description of theirs."""
    sure = [entry for entry in found if not entry.path.lower().endswith((".json", ".json.gz", ".json.zst"))]
    if not sure or len(sure) == len(found):
        return found
    loose = next(entry for entry in found if entry not in sure)
    more = f" and {len(found) - len(sure) - 1} more .json" if len(found) - len(sure) > 1 else ""
    notes.append(f"left out: {shown_name(loose.below)}{more}, beside files of another kind")
    return sure


def partition(below: str) -> dict[str, str | None]:
    """The columns that folders named `key=value` give: text, as it was written."""
    pairs = [part.partition("=") for part in below.split("/")[:-1]]
    return {unquote(key): None if value == _NO_VALUE else unquote(value) for key, sign, value in pairs if sign and key}


def shown_name(path: str) -> str:
    """A path as text that every output can carry: bytes that are not UTF-8 are shown by their numbers."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
