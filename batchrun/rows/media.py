"""Files in prompts: an image, a sound or a document as the text that a chat's part holds (contract.md §4, §5).

Source of the shapes: OpenAI, "Chat completions", content parts: `image_url.url` and `file.file_data` take a data URL,
`input_audio.data` bare base64. The media type is told by the file's name, else by how its content begins, the same
on every machine.
"""

import base64
import mimetypes
import stat
from pathlib import Path
from typing import Any

MOST_MIB = 20
"""Largest file that goes into a prompt: past it most endpoints refuse the request."""
_LONGEST_PATH = 300
_URL_STARTS = ("data:", "https://", "http://")
_types = mimetypes.MimeTypes()
for _ending, _type in {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".md": "text/markdown",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}.items():
    _types.add_type(_type, _ending)


_HEADS = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"%PDF-", "application/pdf"),
)
"""How files of a kind begin: (offset, bytes, media type)."""


class MediaError(Exception):
    """A file that can't go into a prompt; the message names it."""


def data_url(value: Any, max_mib: float = MOST_MIB) -> str:
    """A file as `data:TYPE;base64,…`: a local path, bytes, or an object of `bytes` and `path` as datasets keep images and
    sounds in Parquet. A value that is a URL already stays as it is. Raises MediaError.
    """
    if isinstance(value, str) and value.lower().startswith(_URL_STARTS):
        return value
    name, data = _content(value, max_mib)
    kind = (name and _types.guess_type(Path(name).name)[0]) or _sniffed(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def as_base64(value: Any, max_mib: float = MOST_MIB) -> str:
    """The bytes of a file as base64. Relative paths are relative to the working directory. Raises MediaError."""
    return base64.b64encode(_content(value, max_mib)[1]).decode()


def _content(value: Any, max_mib: float) -> tuple[str | None, bytes]:
    """(the path that tells its kind, the content) of what a column gives."""
    if isinstance(value, bytes):
        return None, _sized("the bytes", value, max_mib)
    if isinstance(value, dict) and value.keys() <= {"bytes", "path", "array", "sampling_rate"}:
        path, data = value.get("path"), value.get("bytes")
        if isinstance(data, bytes):
            return (path if isinstance(path, str) else None), _sized("the bytes", data, max_mib)
        value = path
    if not isinstance(value, str) or not value:
        given = "an empty string" if value == "" else "null" if value is None else type(value).__name__
        raise MediaError(f"a path must be a string that is not empty, or the column must hold bytes; this is {given}")
    return value, _read(value, max_mib)


def _read(path: str, max_mib: float) -> bytes:
    shown = path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
            raise MediaError(f"{shown}: not a file")
        _refuse_large(shown, found.st_size, max_mib)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MediaError(f"{shown}: cannot be read: {reason}") from None


def _sized(name: str, data: bytes, max_mib: float) -> bytes:
    _refuse_large(name, len(data), max_mib)
    return data


def _refuse_large(name: str, size: int, max_mib: float) -> None:
    if size > max_mib * 2**20:
        raise MediaError(
            f"{name}: {size / 2**20:.1f} MiB, over the {max_mib:g} MiB that go into a prompt; "
            "make it smaller, or allow more with max_mib="
        )


def _sniffed(data: bytes) -> str:
    for offset, head, kind in _HEADS:
        if data[offset : offset + len(head)] == head:
            return kind
    return "application/octet-stream"
