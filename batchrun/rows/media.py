"""Local files in prompts: an image, a sound or a document as the text that a chat's part holds (contract.md §4, §5).

Source of the shapes: OpenAI, "Chat completions", content parts: `image_url.url` and `file.file_data` take a data URL,
`input_audio.data` bare base64. The media type is told by the file's name alone, the same on every machine.
"""

import base64
import mimetypes
import stat
from pathlib import Path

MOST_MIB = 20
"""Largest file that goes into a prompt: past it most endpoints refuse the request."""
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


class MediaError(Exception):
    """A file that can't go into a prompt; the message names it."""


def data_url(path: str, max_mib: float = MOST_MIB) -> str:
    """A local file as `data:TYPE;base64,…`; a value that is a URL already stays as it is. Raises MediaError."""
    if isinstance(path, str) and path.lower().startswith(_URL_STARTS):
        return path
    encoded = as_base64(path, max_mib)
    kind = _types.guess_type(Path(path).name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{encoded}"


def as_base64(path: str, max_mib: float = MOST_MIB) -> str:
    """The bytes of a local file as base64. Relative paths are relative to the working directory. Raises MediaError."""
    if not isinstance(path, str) or not path:
        raise MediaError(f"a path must be a string that is not empty, not {path!r}")
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device never ends
            raise MediaError(f"{path}: not a file")
        if found.st_size > max_mib * 2**20:
            raise MediaError(
                f"{path}: {found.st_size / 2**20:.1f} MiB, over the {max_mib:g} MiB that go into a prompt; "
                "make it smaller, or allow more with max_mib="
            )
        return base64.b64encode(Path(path).read_bytes()).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MediaError(f"{path}: cannot be read: {reason}") from None
