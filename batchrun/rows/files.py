"""Which files an input path names: one file, a folder, a glob or standard input, local or on any filesystem that pyarrow
opens; and how each is opened.

One input has one format: JSONL, CSV or TSV (each also .gz, .zst) or Parquet. Says what is taken and what is left out.
"""

import os
import stat
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import msgspec
import pyarrow as pa

from batchrun.errors import JobError
from batchrun.rows import listing, spool

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_ZIPPED = {".gz": "gzip", ".zst": "zstd"}
_KNOWN = "name it .jsonl, .csv, .tsv (each also with .gz or .zst) or .parquet"


class InputFile(msgspec.Struct, frozen=True):
    """One file. `path` and `name` are how it is known and shown, `stamp` changes when the file does; `partition` are the
    columns that its folders give (`lang=en/`).
    """

    path: str
    name: str
    format: str
    compression: str | None
    size: int
    stamp: str
    partition: dict[str, str | None] = {}


class Found(msgspec.Struct, frozen=True):
    """The files of an input. `places` are their paths on `filesystem`, None for the local one; `notes` say what is taken
    and left out. `spooled` keeps what came through a pipe for as long as this is held.
    """

    files: tuple[InputFile, ...]
    places: tuple[str, ...]
    filesystem: Any = None
    notes: tuple[str, ...] = ()
    spooled: Any = None

    def open(self, number: int) -> Any:
        """A file's bytes as they are stored: a binary file that can seek. Raises OSError."""
        if self.filesystem is None:
            return pa.OSFile(os.fsencode(self.places[number]))  # a name may hold bytes that are no text
        return self.filesystem.open_input_file(self.places[number])


def find(url: str) -> Found:
    """The input's files, in order of their names. Raises JobError where there is none."""
    if spool.is_pipe(url):
        return _spooled(url)
    where = _without_secrets(url)
    filesystem, path = open_filesystem(url)
    notes: list[str] = []
    try:
        entries = _entries(filesystem, path, where, notes)
    except OSError as error:
        raise JobError(f"{where}: cannot be read: {error.strerror or error}") from None
    files = tuple(_input_file(entry, root, filesystem is None) for entry, root in entries)
    if not files:
        raise JobError(f"{where}: no .jsonl, .csv, .tsv or .parquet file there{_reasons(notes)}")
    _refuse_mixed(files, where)
    if len(files) > 1:
        size = _size(sum(file.size for file in files))
        notes.insert(0, f"input: {len(files)} files, {size}: {files[0].name} … {files[-1].name}")
    return Found(files, tuple(entry.path for entry, _root in entries), filesystem, tuple(dict.fromkeys(notes)))


def open_filesystem(url: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a URL, None for the local one, and the path on it. Raises JobError."""
    if "://" not in url:
        return None, os.path.abspath(url)  # noqa: PTH100 - a glob is not a Path
    if url.lower().startswith("file://"):
        # not by pyarrow: a `?` is a sign of a glob there, not the start of a query
        rest = url[len("file://") :]
        path = os.fsdecode(unquote_to_bytes(rest[rest.index("/") :] if "/" in rest else "/"))
        return None, os.path.abspath(path)  # noqa: PTH100
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(url)
    except (OSError, ValueError) as error:
        where = _without_secrets(url)
        raise JobError(f"{where}: cannot be opened: {str(error).replace(url, where)}") from None
    return filesystem, path


def lasting(path: str) -> str:
    """A path that holds in any working directory and that any text can carry: a name that is no text becomes a URL."""
    whole = os.path.abspath(path)  # noqa: PTH100 - a glob is not a Path
    return whole if listing.shown_name(whole) == whole else f"file://{quote_from_bytes(os.fsencode(whole))}"


def format_of(path: str) -> tuple[str, str | None] | None:
    """(format, compression) by the name's ending, or None for a name that no format has."""
    lower = path.lower()
    compression = next((_ZIPPED[end] for end in _ZIPPED if lower.endswith(end)), None)
    stem = lower.rpartition(".")[0] if compression else lower
    known = next((_ENDINGS[end] for end in _ENDINGS if stem.endswith(end)), None)
    if known is None or (known == "parquet" and compression):
        return None
    return known, compression


def _entries(filesystem: Any, path: str, where: str, notes: list[str]) -> list[tuple[listing.Entry, str]]:
    """The entries that a path names, each with what its folders' columns are told from."""
    kind = _kind(filesystem, path)
    if kind == "file":
        if format_of(path) is None:
            raise JobError(f"{where}: not a known input format; {_KNOWN}")
        name = path.rpartition("/")[2]
        entry = listing.local_entry(path, name) if filesystem is None else _remote(filesystem, path, name)
        return [(entry, "")]
    pattern = None
    root, depth = path, None
    if kind is None:
        if not listing.is_glob(path):
            raise JobError(f"{where}: no such file or directory")
        pattern = listing.Pattern(path)
        root, depth = pattern.root, pattern.depth
        if _kind(filesystem, root) != "folder":
            return []
    if filesystem is None:
        found = list(listing.local_entries(root, depth, _is_wanted))
    else:
        found = list(listing.remote_entries(filesystem, root, depth, _is_wanted))
    named = "/".join(part for part in root.split("/") if "=" in part) + "/" if pattern is not None else ""
    return [(entry, named.lstrip("/") + entry.below) for entry in listing.chosen(found, pattern, where, notes)]


def _is_wanted(name: str) -> bool:
    return format_of(name) is not None


def _kind(filesystem: Any, path: str) -> str | None:
    if filesystem is None:
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return "folder" if stat.S_ISDIR(mode) else "file"
    from pyarrow import fs

    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(filesystem.get_file_info(path).type)


def _remote(filesystem: Any, path: str, name: str) -> listing.Entry:
    return listing.remote_entry(filesystem.get_file_info(path), name)


def _input_file(entry: listing.Entry, below: str, local: bool) -> InputFile:
    known = format_of(entry.path)
    assert known is not None
    inside = local and entry.path.startswith(os.getcwd() + "/")  # noqa: PTH109
    name = os.path.relpath(entry.path) if inside else entry.path
    shown = listing.shown_name
    return InputFile(shown(entry.path), shown(name), *known, entry.size, entry.stamp, listing.partition(shown(below)))


def _spooled(url: str) -> Found:
    spooled = spool.take(url)
    kind, compression = spooled.format
    file = InputFile(spooled.name, spooled.name, kind, compression, spooled.size, spooled.stamp)
    return Found((file,), (spooled.path,), spooled=spooled)


def _refuse_mixed(files: tuple[InputFile, ...], where: str) -> None:
    formats = {file.format: file for file in files}
    if len(formats) > 1:
        named = " and ".join({"jsonl": "JSONL", "csv": "CSV", "parquet": "Parquet"}[name] for name in formats)
        remedy = f"name one kind, for example '{where.rstrip('/')}/*.{next(iter(formats))}'"
        raise JobError(f"{where}: holds both {named} ({', '.join(one.name for one in formats.values())}); {remedy}")
    stems: dict[str, str] = {}
    for file in files:
        stem = file.path.rpartition(".")[0] if file.compression else file.path
        if stem in stems:
            raise JobError(
                f"{where}: {stems[stem]} and {file.name} look like one input twice; name the one that is meant"
            )
        stems[stem] = file.name


def _reasons(notes: list[str]) -> str:
    return f" ({'; '.join(notes[:3])})" if notes else ""


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _without_secrets(url: str) -> str:
    """How a path or URL is shown: a URL's user and query may hold a key."""
    if "://" not in url or url.lower().startswith("file://"):
        return listing.shown_name(url)
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
