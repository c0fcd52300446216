"""Prompts that stand in files: `--prompt-file F`, `--prompt @F`, `--system @F`, and the same from Python."""

import os
from pathlib import Path
from typing import Any

from batchrun.errors import JobError

_MOST_BYTES = 8 << 20


def with_files(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the texts of files in place of their names. Raises JobError.

    `@@` begins a prompt that begins with an @ itself.
    """
    found = dict(settings)
    file = found.pop("prompt_file", None)
    for name in ("prompt", "system"):
        text = found.get(name)
        if isinstance(text, str) and text.startswith("@"):
            found[name] = text[1:] if text.startswith("@@") else _read(text[1:], f"{name} @{text[1:]}")
    if file is not None:
        if "prompt" in found:
            raise JobError("both prompt and prompt_file are given; keep one")
        found["prompt"] = _read(os.fspath(file), "prompt_file")
    return found


def _read(path: str, what: str) -> str:
    """A file's text without the line end behind its last line, which editors add."""
    try:
        data = Path(path).read_bytes() if path else b""
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        hint = "; a prompt that begins with @ is written @@…" if what.startswith(("prompt @", "system @")) else ""
        raise JobError(f"{path}: cannot be read as a prompt: {reason}{hint}") from None
    if len(data) > _MOST_BYTES:
        raise JobError(f"{path}: a prompt of {len(data) >> 20} MiB; was the input meant?")
    if not text.strip():
        raise JobError(f"{path or what}: no prompt in it")
    return text.replace("\r\n", "\n").removesuffix("\n")
