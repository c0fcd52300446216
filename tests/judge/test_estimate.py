"""The most that a request's answer may come to, for every path (contract.md §7.4)."""

import json
from typing import Any

import pytest

from batchrun.judge.estimate import most_completion_tokens
from batchrun.records import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Request

BOUNDS: list[tuple[str, dict[str, Any], int | None]] = [
    (CHAT, {}, None),
    (CHAT, {"max_tokens": 5}, 5),
    (CHAT, {"max_tokens": 5, "max_completion_tokens": 7, "n": 2}, 14),
    (CHAT, {"max_output_tokens": 5}, None),
    (CHAT, {"max_tokens": "5"}, None),
    (COMPLETIONS, {"max_tokens": 5}, 5),
    (COMPLETIONS, {"max_tokens": 5, "n": 2, "best_of": 4}, 20),
    (RESPONSES, {"max_output_tokens": 5}, 5),
    (RESPONSES, {"max_tokens": 5}, None),
    (EMBEDDINGS, {}, 0),
    (EMBEDDINGS, {"max_tokens": 5}, 0),
]


@pytest.mark.parametrize(("path", "body", "most"), BOUNDS, ids=str)
def test_bound(path: str, body: dict[str, Any], most: int | None) -> None:
    """An answer is bounded by the parameter that its path knows; a vector has no tokens."""
    assert most_completion_tokens(Request(0, "0", "default", 0, json.dumps(body).encode(), "h", "m", path=path)) == most
