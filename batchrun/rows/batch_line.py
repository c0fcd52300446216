"""OpenAI batch lines: `custom_id, method, url, body` → the path that is asked, and its body (contract.md §4).

Source of the shape: OpenAI, "Batch API", the request input object. A line of another shape than a chat's keeps its body
as it is; only what would make its answer unreadable is refused or left out.
"""

from typing import Any

import msgspec

from batchrun.records import CHAT, COMPLETIONS, EMBEDDINGS, PATHS

_URLS = {f"{root}{path}": path for path in PATHS for root in ("/v1", "")}
EMBEDDING_BYTES = 12 << 10
"""About what an answer's vector takes in memory: 1536 doubles."""


class RowError(Exception):
    """A row that can't become a request; the message says why."""


def is_batch_line(data: dict[str, Any]) -> bool:
    return "body" in data and ("custom_id" in data or "url" in data)


def read_batch_line(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path (of PATHS) and the body of a batch line. Raises RowError."""
    method, url = data.get("method") or "POST", data.get("url") or CHAT
    if str(method).upper() != "POST":
        raise RowError(f"`method` must be POST, not {method!r}")
    path = _URLS.get(url) if isinstance(url, str) else None
    if path is None:
        known = ", ".join(f"/v1{path}" for path in PATHS)
        raise RowError(f"`url` {url!r} is not one that can be asked; these are: {known}")
    body = data["body"]
    if isinstance(body, str):
        body = from_json(body, "body")
    if not isinstance(body, dict):
        raise RowError("`body` must be an object")
    # a Parquet struct gives every row every field, null where the row has none
    return path, {key: value for key, value in body.items() if value is not None}


def check_shape(path: str, body: dict[str, Any]) -> None:
    """Whether a body that is no chat's has one answer that can be recorded whole. Raises RowError."""
    name = "prompt" if path == COMPLETIONS else "input"
    if path in (COMPLETIONS, EMBEDDINGS):
        value = body.get(name)
        if not isinstance(value, str | list) or not value:
            raise RowError(f"a line for /v1{path} needs `{name}` in its body: a text, or a list that is not empty")
        if path == COMPLETIONS and isinstance(value, list) and len(value) > 1 and not isinstance(value[0], int):
            raise RowError("`prompt` holds several prompts; write one line for each, so that each answer is recorded")
    elif body.get("background"):
        raise RowError("`background` asks for an answer that comes later; leave it out")


def answer_bytes(data: dict[str, Any]) -> int:
    """About how much memory the answer to a row takes where that is much: vectors, one for each input."""
    url = data.get("url")
    if not isinstance(url, str) or not url.endswith(EMBEDDINGS):
        return 0
    body = data.get("body")
    given = body.get("input") if isinstance(body, dict) else None
    return EMBEDDING_BYTES * (len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1)


def bare(value: Any) -> Any:
    """Without the nulls that a Parquet list of structs puts into every part."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    return value


def from_json(text: str, name: str) -> Any:
    """What a column of JSON text holds. Raises RowError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise RowError(f"`{name}` is a string but not JSON: {error}") from None
