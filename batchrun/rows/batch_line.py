"""OpenAI batch lines: `custom_id, method, url, body` → the path that is asked, and its body (contract.md §4).

Source of the shape: OpenAI, "Batch API", the request input object. A line of another shape than a chat's keeps its body
as it is; only what would make its answer unreadable is refused or left out.
"""

from typing import Any

from batchrun.records import CHAT, COMPLETIONS, EMBEDDINGS, PATHS
from batchrun.rows.plain import RowError, from_json, is_missing, plain

_URLS = {f"{root}{path}": path for path in PATHS for root in ("/v1", "")}
COLUMNS = frozenset({"custom_id", "method", "url", "body"})
EMBEDDING_BYTES = 12 << 10
"""About what an answer's vector takes in memory: 1536 doubles."""


def is_batch_line(data: dict[str, Any]) -> bool:
    return "body" in data and ("custom_id" in data or "url" in data)


def read_batch_line(data: dict[str, Any], *, filled: bool) -> tuple[str, dict[str, Any]]:
    """The path (of PATHS) and the body of a batch line. With `filled`, a null of its body is a field that the row does not
    have. Raises RowError.
    """
    method, url = data.get("method") or "POST", data.get("url") or CHAT
    if str(method).upper() != "POST":
        raise RowError(f"`method` must be POST, not {method!r}")
    path = _URLS.get(url) if isinstance(url, str) else None
    if path is None:
        known = ", ".join(f"/v1{path}" for path in PATHS)
        raise RowError(f"`url` {url!r} is not one that can be asked; these are: {known}")
    body = data["body"]
    if isinstance(body, str):
        body, filled = from_json(body, "body"), False
    if not isinstance(body, dict):
        raise RowError("`body` must be an object")
    if filled:
        messages = body.get("messages")
        body = {key: plain(value, f"body.{key}") for key, value in body.items() if not is_missing(value)}
        if messages is not None:
            body["messages"] = messages  # in a message, one null is no filling
    return path, dict(body)


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
