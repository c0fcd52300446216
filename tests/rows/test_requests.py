"""Row → requests: the four shapes of a row, precedence, identity (contract.md §4–§5, §7.2)."""

import json
from typing import Any

import pytest

from batchrun.job import from_table
from batchrun.records import Request, Row
from batchrun.rows.requests import RequestBuilder, RowError

USER = [{"role": "user", "content": "hi"}]
SYSTEM = {"role": "system", "content": "Be brief."}


def built(data: dict[str, Any], error: str | None = None, **tables: Any) -> list[Request]:
    tables = {"endpoint": {"model": "m"}, **tables}
    return RequestBuilder(from_table(tables)).build(Row(3, "id3", data, "a.jsonl:4", error))


def body(data: dict[str, Any], **tables: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(built(data, **tables)[0].body)
    return made


BATCH = {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions"}
NULLS = [{"role": "user", "name": None, "content": [{"type": "text", "text": "hi", "image_url": None}]}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
PROMPT = {"prompt": {"system": "Be brief."}}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "prompt": ({"prompt": "hi"}, {}, {"model": "m", "messages": USER}),
    "prompt and system": ({"prompt": "hi", "system": "Be brief."}, {}, {"model": "m", "messages": [SYSTEM, *USER]}),
    "job's system": ({"prompt": "hi"}, PROMPT, {"model": "m", "messages": [SYSTEM, *USER]}),
    "messages": ({"messages": USER}, {}, {"model": "m", "messages": USER}),
    "messages as text": ({"messages": json.dumps(USER)}, {}, {"model": "m", "messages": USER}),
    "messages with Parquet's nulls": ({"messages": NULLS}, {}, {"model": "m", "messages": PARTS}),
    "messages with a system": ({"messages": [SYSTEM, *USER]}, PROMPT, {"model": "m", "messages": [SYSTEM, *USER]}),
    "row's params": (
        {"prompt": "hi", "params": {"top_p": 0.5, "seed": None}},
        {"params": {"top_p": 1, "n": 1}},
        {"model": "m", "messages": USER, "top_p": 0.5, "n": 1},
    ),
    "batch line": (
        {**BATCH, "body": {"model": "own", "messages": USER, "seed": 1}},
        {"params": {"seed": 2, "n": 1}},
        {"model": "own", "messages": USER, "seed": 1, "n": 1},
    ),
    "batch line as text": ({**BATCH, "body": json.dumps({"messages": USER})}, {}, {"model": "m", "messages": USER}),
    "template": (
        {"who": "hi", "params": {"seed": 1}},
        {"prompt": {"user": "{{ who }}", "system": "Be brief."}},
        {"model": "m", "messages": [SYSTEM, *USER]},
    ),
    "template of messages": (
        {"who": "hi"},
        {"prompt": {"messages": [{"role": "user", "content": [{"type": "text", "text": "{{ who }}"}]}]}},
        {"model": "m", "messages": PARTS},
    ),
    "variant over the row": (
        {"prompt": "hi", "params": {"seed": 1}},
        {"params": {"seed": 0}, "sweep": {"seed": [2], "model": ["v"]}},
        {"model": "v", "messages": USER, "seed": 2},
    ),
}


@pytest.mark.parametrize(("data", "tables", "expected"), SHAPES.values(), ids=SHAPES)
def test_shape(data: dict[str, Any], tables: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each shape of a row becomes its body; job's params, then the row's, then the variant's."""
    assert body(data, **tables) == expected


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no prompt": ({"text": "a"}, {}, "no `prompt`, `messages` or `body` (columns: text)"),
    "missing column": ({"text": "a"}, {"prompt": {"user": "{{ txt }}"}}, "'txt' is undefined"),
    "no model": ({"prompt": "a"}, {"endpoint": {}}, "no model"),
    "empty messages": ({"messages": []}, {}, "not empty"),
    "no role": ({"messages": [{"content": "a"}]}, {}, "`role`"),
    "messages no JSON": ({"messages": "hi"}, {}, "not JSON"),
    "params": ({"prompt": "a", "params": [1]}, {}, "`params` must be an object"),
    "url": ({**BATCH, "url": "/v1/embeddings", "body": {}}, {}, "not yet supported"),
    "method": ({**BATCH, "method": "GET", "body": {}}, {}, "must be POST"),
    "stream": ({"prompt": "a", "params": {"stream": "yes"}}, {}, "`stream` must be true or false"),
}


@pytest.mark.parametrize(("data", "tables", "says"), FAULTS.values(), ids=FAULTS)
def test_fault(data: dict[str, Any], tables: dict[str, Any], says: str) -> None:
    """A row that can't become a request says why, naming the column or key."""
    with pytest.raises(RowError) as caught:
        built(data, **tables)
    assert says in str(caught.value)


def test_variants_and_samples_in_order() -> None:
    """A row gives one request for each (variant, sample), in that order; samples share a hash."""
    made = built({"prompt": "hi"}, samples=2, sweep={"seed": [1, 2]})
    assert [request.key for request in made] == [(3, f"seed={s}", n) for s in (1, 2) for n in (0, 1)]
    assert made[0].hash == made[1].hash != made[2].hash


def test_hash_is_of_the_body_without_stream() -> None:
    """The identity ignores how an answer travels and the order of keys, and nothing else."""
    plain = built({"prompt": "hi"}, params={"a": 1, "b": 2})[0]
    streamed = built({"prompt": "hi"}, params={"b": 2, "a": 1, "stream": True, "stream_options": {}})[0]
    assert (plain.hash, plain.body) == (streamed.hash, streamed.body)
    assert (plain.stream, streamed.stream) == (False, True)
    assert built({"prompt": "ho"}, params={"a": 1, "b": 2})[0].hash != plain.hash


def test_nulls_of_a_parquet_body_are_no_settings() -> None:
    """A null in a batch body is a field that the row does not have: it hides neither the job's model nor a parameter."""
    data = {"custom_id": "a", "body": {"model": None, "top_p": None, "messages": [{"role": "user", "content": "hi"}]}}
    assert body(data, endpoint={"model": "m"})["model"] == "m"
    assert "top_p" not in body(data, endpoint={"model": "m"})
