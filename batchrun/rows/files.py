"""Which files an input path names: one file, a directory, or a glob, local or on any filesystem that pyarrow opens.

Finds and stats files, nothing else. One input has one format: JSONL (also .gz, .zst) or Parquet.
"""

import fnmatch
import os
from typing import Any

import msgspec

from batchrun.errors import JobError

_JSONL = (".jsonl", ".ndjson", ".json")
_ZIPPED = {".gz": "gzip", ".zst": "zstd"}


class InputFile(msgspec.Struct, frozen=True):
    """One file. `path` is its path on the filesystem, `name` how it is shown, `stamp` changes when the file does."""

    path: str
    name: str
    format: str
    compression: str | None
    size: int
    stamp: str


def open_filesystem(url: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a URL or local path, and the path on it. Raises JobError."""
    from pyarrow import fs

    if "://" not in url:
        return fs.LocalFileSystem(), os.path.abspath(url)  # noqa: PTH100 - a glob is not a Path
    try:
        filesystem, path = fs.FileSystem.from_uri(url)
    except (OSError, ValueError) as error:
        raise JobError(f"{url}: cannot be opened: {error}") from None
    return filesystem, path


def find(url: str) -> tuple[Any, tuple[InputFile, ...]]:
    """The filesystem and the input's files, in order of their names. Raises JobError where there is none."""
    from pyarrow import fs

    filesystem, path = open_filesystem(url)
    local = isinstance(filesystem, fs.LocalFileSystem)
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            infos = [info]
            if format_of(path) is None:
                raise JobError(f"{url}: not a known input format; name it .jsonl, .jsonl.gz, .jsonl.zst or .parquet")
        elif info.type == fs.FileType.Directory:
            infos = _listing(filesystem, fs.FileSelector(path, recursive=True))
        elif any(sign in path for sign in "*?["):
            root = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
            selector = fs.FileSelector(root or "/", allow_not_found=True, recursive="/" in path[len(root) + 1 :])
            infos = [found for found in _listing(filesystem, selector) if _matches(found.path, path)]
        else:
            raise JobError(f"{url}: no such file or directory")
    except OSError as error:
        raise JobError(f"{url}: cannot be read: {error.strerror or error}") from None
    files = tuple(_input_file(info, local) for info in infos)
    if not files:
        raise JobError(f"{url}: no .jsonl, .jsonl.gz, .jsonl.zst or .parquet file there")
    formats = {file.format for file in files}
    if len(formats) > 1:
        raise JobError(f"{url}: holds both JSONL and Parquet; name one kind, for example {url.rstrip('/')}/*.parquet")
    return filesystem, files


def format_of(path: str) -> tuple[str, str | None] | None:
    """(format, compression) by the name's ending, or None for a name that is neither JSONL nor Parquet."""
    lower = path.lower()
    compression = next((_ZIPPED[end] for end in _ZIPPED if lower.endswith(end)), None)
    stem = lower.rpartition(".")[0] if compression else lower
    if stem.endswith(_JSONL):
        return "jsonl", compression
    if lower.endswith((".parquet", ".pq")):
        return "parquet", None
    return None


def _listing(filesystem: Any, selector: Any) -> list[Any]:
    found = [info for info in filesystem.get_file_info(selector) if info.is_file and format_of(info.path)]
    root = selector.base_dir
    shown = [i for i in found if not any(p[:1] in "._" for p in i.path[len(root) :].strip("/").split("/"))]
    return sorted(shown, key=lambda info: info.path)


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.strip("/").split("/"), pattern.strip("/").split("/")
    if "**" in wanted:
        return fnmatch.fnmatchcase(path, pattern.replace("**/", "*"))
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _input_file(info: Any, local: bool) -> InputFile:
    known = format_of(info.path)
    assert known is not None
    stamp = f"{info.size}:{info.mtime_ns}"
    name = os.path.relpath(info.path) if local and info.path.startswith(os.getcwd() + "/") else info.path  # noqa: PTH109
    if local:
        stamp += f":{os.stat(info.path).st_ino}"  # noqa: PTH116 - an inode tells a replaced file from the old one
    return InputFile(info.path, name, known[0], known[1], info.size, stamp)
