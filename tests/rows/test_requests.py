"""Row → requests: the four shapes of a row, precedence, identity (contract.md §4–§5, §7.2)."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from batchrun.job import from_table
from batchrun.records import CHAT, PATHS, Request, Row
from batchrun.rows.plain import RowError
from batchrun.rows.requests import RequestBuilder

USER = [{"role": "user", "content": "hi"}]
SYSTEM = {"role": "system", "content": "Be brief."}


def built(data: dict[str, Any], filled: bool = False, **tables: Any) -> list[Request]:
    tables = {"endpoint": {"model": "m"}, **tables}
    return RequestBuilder(from_table(tables)).build(Row(3, "id3", data, "a.jsonl:4", filled=filled))


def body(data: dict[str, Any], filled: bool = False, **tables: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(built(data, filled, **tables)[0].body)
    return made


BATCH = {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions"}
NULLS = [{"role": "user", "name": None, "content": [{"type": "text", "text": "hi", "image_url": None}]}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
PROMPT = {"prompt": {"system": "Be brief."}}
COOKBOOK = {"model": "own", "messages": USER, "temperature": 0, "max_tokens": 7}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "default": None}}}]
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "prompt": ({"prompt": "hi"}, {}, {"model": "m", "messages": USER}),
    "prompt and system": ({"prompt": "hi", "system": "Be brief."}, {}, {"model": "m", "messages": [SYSTEM, *USER]}),
    "job's system": ({"prompt": "hi"}, PROMPT, {"model": "m", "messages": [SYSTEM, *USER]}),
    "messages": ({"messages": USER}, {}, {"model": "m", "messages": USER}),
    "messages as text": ({"messages": json.dumps(USER)}, {}, {"model": "m", "messages": USER}),
    "JSON's own nulls": ({"messages": NULLS}, {}, {"model": "m", "messages": NULLS}),
    "messages with a system": ({"messages": [SYSTEM, *USER]}, PROMPT, {"model": "m", "messages": [SYSTEM, *USER]}),
    "row's params": (
        {"prompt": "hi", "params": {"top_p": 0.5, "seed": None}},
        {"params": {"top_p": 1, "seed": 7, "n": 1}},
        {"model": "m", "messages": USER, "top_p": 0.5, "seed": None, "n": 1},
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
    "the cookbook's line": (COOKBOOK, {"params": {"temperature": 1, "n": 2}}, {**COOKBOOK, "n": 2}),
    "the cookbook's line with its note": ({**COOKBOOK, "metadata": {"row_id": 1}, "id": 4}, {}, COOKBOOK),
    "metadata that is kept": (
        {**COOKBOOK, "store": True, "metadata": {"a": "b"}},
        {},
        {**COOKBOOK, "store": True, "metadata": {"a": "b"}},
    ),
    "parameters beside other columns": (
        {"messages": USER, "temperature": 0.5, "label": "x", "tools": TOOLS},
        {},
        {"model": "m", "messages": USER, "temperature": 0.5, "tools": TOOLS},
    ),
    "parameters as JSON text": (
        {"prompt": "hi", "temperature": "0.5", "tools": json.dumps(TOOLS), "tool_choice": "auto"},
        {},
        {"model": "m", "messages": USER, "temperature": 0.5, "tools": TOOLS, "tool_choice": "auto"},
    ),
    "a data set's own column of models": (
        {"messages": USER, "model": "who answered", "language": "en"},
        {},
        {"model": "m", "messages": USER},
    ),
    "params over the top level": (
        {**COOKBOOK, "params": {"temperature": 2}},
        {},
        {**COOKBOOK, "temperature": 2},
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
    "no prompt": ({"text": "a"}, {}, "no `prompt`, `messages` or `body`: the row's columns are: text; give a template"),
    "missing column": ({"text": "a"}, {"prompt": {"user": "{{ txt }}"}}, "'txt' is undefined"),
    "no model": ({"prompt": "a"}, {"endpoint": {}}, "no model"),
    "empty messages": ({"messages": []}, {}, "not empty"),
    "no role": ({"messages": [{"content": "a"}]}, {}, "`role`"),
    "messages no JSON": ({"messages": "hi"}, {}, "not JSON"),
    "params": ({"prompt": "a", "params": [1]}, {}, "`params` must be an object"),
    "url": ({**BATCH, "url": "/v1/moderations", "body": {}}, {}, "these are: /v1/chat/completions, /v1/completions"),
    "url of another type": ({**BATCH, "url": ["/v1/embeddings"], "body": {}}, {}, "these are"),
    "no input": ({**BATCH, "url": "/v1/embeddings", "body": {}}, {}, "needs `input`"),
    "empty input": ({**BATCH, "url": "/v1/embeddings", "body": {"input": []}}, {}, "needs `input`"),
    "no text prompt": ({**BATCH, "url": "/v1/completions", "body": {"messages": USER}}, {}, "needs `prompt`"),
    "several prompts": ({**BATCH, "url": "/v1/completions", "body": {"prompt": ["a", "b"]}}, {}, "one line for each"),
    "background": ({**BATCH, "url": "/v1/responses", "body": {"input": "a", "background": True}}, {}, "`background`"),
    "null prompt": ({"prompt": None, "id": 1}, {}, "`prompt` is null"),
    "system of another type": ({"prompt": "a", "system": {"a": 1}}, {}, "`system` must be a string, not dict"),
    "parameter as text": ({"prompt": "a", "temperature": "warm"}, {}, "`temperature` is a string but not JSON"),
    "deep text": ({"prompt": "a", "params": "[" * 1000 + "]" * 1000}, {}, "nested more than 256 levels deep"),
    "very deep text": ({"messages": '[{"a":' * 9999}, {}, "nested more than"),
    "half a character": ({"prompt": "a", "params": '{"a": "\ud800"}'}, {}, "half a character"),
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
    assert body(data, filled=True, endpoint={"model": "m"})["model"] == "m"
    assert "top_p" not in body(data, filled=True, endpoint={"model": "m"})


def line(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": "c", "method": "POST", "url": path, "body": body}


OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "completions": ("/completions", {"prompt": "hi", "echo": True}, {}, {"model": "m", "prompt": "hi", "echo": True}),
    "one prompt in a list": ("/completions", {"prompt": ["hi"]}, {}, {"model": "m", "prompt": ["hi"]}),
    "tokens": ("/completions", {"prompt": [1, 2]}, {}, {"model": "m", "prompt": [1, 2]}),
    "embeddings": (
        "/embeddings",
        {"input": ["a", "b"], "model": "own"},
        {"params": {"dimensions": 8}},
        {"model": "own", "input": ["a", "b"], "dimensions": 8},
    ),
    "no system where there is no place for it": (
        "/embeddings",
        {"input": "a"},
        {"prompt": {"system": "Be brief."}},
        {"model": "m", "input": "a"},
    ),
    "responses": ("/responses", {"input": "hi", "stream": True}, {}, {"model": "m", "input": "hi"}),
    "responses, job's system": (
        "/responses",
        {"input": USER},
        {"prompt": {"system": "Be brief."}},
        {"model": "m", "input": USER, "instructions": "Be brief."},
    ),
    "responses, instructions": (
        "/responses",
        {"input": "hi", "instructions": "Sing."},
        {"prompt": {"system": "Be brief."}},
        {"model": "m", "input": "hi", "instructions": "Sing."},
    ),
    "responses, a system of their own": (
        "/responses",
        {"input": [SYSTEM, *USER]},
        {"prompt": {"system": "Be brief."}},
        {"model": "m", "input": [SYSTEM, *USER]},
    ),
    "JSON's own nulls": (
        "/responses",
        {"input": NULLS, "top_p": None},
        {},
        {"model": "m", "input": NULLS, "top_p": None},
    ),
}


@pytest.mark.parametrize(("path", "own", "tables", "expected"), OTHERS.values(), ids=OTHERS)
def test_other_paths(path: str, own: dict[str, Any], tables: dict[str, Any], expected: dict[str, Any]) -> None:
    """A batch line for another path, with or without /v1, keeps its body, and is asked there, unstreamed."""
    for root in ("/v1", ""):
        (request,) = built(line(root + path, own), **{"params": {"stream": True}, **tables})
        assert (json.loads(request.body), request.path, request.stream) == (expected, path, False)


def test_the_path_is_part_of_the_identity_but_a_chats() -> None:
    """One body on two paths is two requests; a chat is known by its body alone, whatever form its row has."""
    body = {"model": "m", "input": "a", "prompt": "a", "messages": USER}
    hashes = {path: built(line(path, body))[0].hash for path in PATHS}
    assert len(set(hashes.values())) == len(PATHS)
    assert built(line(CHAT, {"messages": USER}))[0].hash == built({"prompt": "hi"})[0].hash
    assert built({"prompt": "hi"})[0].hash == CHAT_HASH
    assert built(line("/v1/embeddings", body))[0].hash == hashes["/embeddings"]


CHAT_HASH = "a8b14c89dd00ef2241895d51d09ada00"

MEDIA_PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
]


def test_parts_of_other_media_pass_through() -> None:
    """Image, sound and file parts of a chat row are sent as they are; a Parquet struct's nulls are not."""
    message = {"role": "user", "content": MEDIA_PARTS}
    assert body({"messages": [message]})["messages"] == [message]
    table = pa.table({"messages": [[message], [message]]})
    from_parquet = table.to_pylist()[0]
    assert from_parquet["messages"][0]["content"][0]["image_url"] is None, "arrow gives every part every field"
    assert body(from_parquet, filled=True)["messages"] == [message]


DECIMALS = {"temperature": Decimal("0.70"), "seed": Decimal(100), "top_p": Decimal("0.12345678901234567890123")}


def test_decimals_are_numbers() -> None:
    """A DECIMAL of Parquet is the number that it says, to its last digit."""
    made = built({"prompt": "hi", "params": DECIMALS}, filled=True)[0].body.decode()
    assert '"seed":100,' in made
    assert '"temperature":0.7,' in made
    assert '"top_p":0.12345678901234567890123}' in made


def test_nulls_that_a_schema_filled_in_are_dropped_at_every_depth() -> None:
    """Of `tools` and `response_format` too, NaN counts as null, and text that is JSON keeps its own nulls."""
    params = {"tools": [{"function": {"name": "f", "strict": None}}, None], "seed": float("nan"), "stop": None}
    made = body({"prompt": "hi", "params": params, "tools": None}, filled=True)
    assert made == {"model": "m", "messages": USER, "tools": [{"function": {"name": "f"}}, None]}
    text = json.dumps({"tools": [{"strict": None}], "stop": None})
    assert body({"prompt": "hi", "params": text}, filled=True)["tools"] == [{"strict": None}]
    assert body({"messages": json.dumps(NULLS)}, filled=True)["messages"] == NULLS
    assert body(line("/responses", {"input": NULLS, "top_p": None}), filled=True) == {"model": "m", "input": PARTS}
    assert body({"messages": NULLS}, filled=True)["messages"] == PARTS


@pytest.mark.parametrize("value", [b"\x89PNG", float("inf"), Decimal("NaN")])
def test_what_json_has_not_is_a_fault_of_the_row(value: Any) -> None:
    """Bytes and infinity among a Parquet row's parameters are named, not sent as null or text."""
    with pytest.raises(RowError, match="`params` holds"):
        built({"prompt": "hi", "params": {"seed": [value]}}, filled=True)


def test_an_error_never_carries_megabytes() -> None:
    """However long a value is, what is said of it is short."""
    for data in ({**BATCH, "url": "x" * 9_000_000, "body": {}}, {"x" * 9_000_000: 1}):
        with pytest.raises(RowError) as caught:
            built(data)
        assert len(str(caught.value)) < 1200


def test_columns_that_are_read() -> None:
    """A builder knows which columns its requests are made of: those of its templates, or those of a row without one."""

    def columns(**tables: Any) -> frozenset[str] | None:
        return RequestBuilder(from_table({"endpoint": {"model": "m"}, **tables})).columns

    assert columns(prompt={"user": "{{ a }} {{ row['b c'].d }} {% for x in e %}{{ x }}{% endfor %}"}) == {
        "a",
        "b c",
        "e",
        "row",
    }
    assert columns(prompt={"user": "{{ row | tojson }}"}) is None
    assert columns(prompt={"user": "{{ a }}", "system": "{{ s }}"}, variant=[{"name": "v", "user": "{{ w }}"}]) == {
        "w",
        "s",
    }
    own = columns(prompt={"system": "{{ s }}"})
    assert own is not None
    assert own >= {"s", "messages", "prompt", "params", "body", "url", "custom_id", "temperature", "model"}
