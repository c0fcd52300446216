"""Plain completion bodies → Answer: lenient in what is read (endpoint.md §1–§2, §6)."""

from typing import Any

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.records import Usage
from batchrun.wire.decode.answer import from_body, parse_json, standard_finish_reason
from batchrun.wire.decode.usage import read_usage


def body(message: dict[str, Any], finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


REASONS = {
    **{name: name for name in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(("STOP", "end_turn", "eos", "eos_token", "end", "stop_sequence", "COMPLETE"), "stop"),
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "tool_use": "tool_calls",
    "Content_Filter": "content_filter",
    "RECITATION": "RECITATION",
}


@pytest.mark.parametrize(("sent", "standard"), REASONS.items())
def test_finish_reason(sent: str, standard: str) -> None:
    """Known spellings get the standard name; an unknown one keeps its text."""
    assert standard_finish_reason(sent) == standard


@pytest.mark.parametrize("sent", REASONS)
def test_finish_reason_is_kept_as_sent(sent: str) -> None:
    """Whatever ends an answer is recorded in the endpoint's own words (contract.md §6)."""
    assert from_body(body({"content": "x"}, sent)).finish_reason == sent


BROKEN = ("error", "abort", "cancelled", "network_error", "insufficient_system_resource", "ERROR")


@pytest.mark.parametrize("reason", BROKEN)
def test_an_answer_that_was_broken_off_is_not_whole(reason: str) -> None:
    """A finish reason that says the answer was broken off is a fault that may have been billed."""
    with pytest.raises(EndpointError, match=reason) as caught:
        from_body(body({"content": "x"}, reason))
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.DISCONNECTED, True)


@pytest.mark.parametrize("finish", [None, ""])
def test_null_finish_reason_is_accepted(finish: str | None) -> None:
    """A plain answer with content and no finish reason is an answer whose finish_reason is null."""
    answer = from_body(body({"content": "x"}, finish))
    assert (answer.completion, answer.finish_reason) == ("x", None)


MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({"content": "x"}, {"completion": "x"}),
    "empty text": ({"content": ""}, {"completion": ""}),
    "null": ({"content": None, "refusal": "no"}, {"completion": None, "refusal": "no"}),
    "parts": (
        {"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
        {"completion": "ab"},
    ),
    "reasoning": ({"content": "x", "reasoning": "r"}, {"reasoning": "r"}),
    "reasoning_content": ({"content": "x", "reasoning_content": "r"}, {"reasoning": "r"}),
    "both names": ({"content": "x", "reasoning_content": "r", "reasoning": "r"}, {"reasoning": "r"}),
    "tool calls": ({"content": None, "tool_calls": [{"id": "a"}]}, {"tool_calls": '[{"id":"a"}]'}),
    "no tool calls": ({"content": "x", "tool_calls": []}, {"tool_calls": None}),
    "a number for text": ({"content": 7}, {"completion": "7"}),
    "function call": ({"content": None, "function_call": {"name": "f"}}, {"tool_calls": '{"name":"f"}'}),
}


@pytest.mark.parametrize(("message", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_message(message: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every shape of a message is read into its columns, as sent."""
    answer = from_body(body(message))
    assert {key: getattr(answer, key) for key in expected} == expected


def test_choice_0_is_found_by_its_index() -> None:
    """The completion is that of index 0, wherever it stands; without indexes the first."""
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert from_body({"choices": choices}).completion == "a"
    assert from_body({"choices": [{"message": {"content": "c"}}]}).completion == "c"


NO_ANSWERS: list[Any] = [{}, {"choices": None}, {"choices": []}, {"choices": ["x"]}, {"choices": [{"message": "x"}]}]


@pytest.mark.parametrize("value", NO_ANSWERS, ids=str)
def test_no_answer_is_malformed(value: dict[str, Any]) -> None:
    """A body without a message is malformed."""
    with pytest.raises(EndpointError) as caught:
        from_body(value)
    assert caught.value.kind is Kind.MALFORMED


USAGES: list[tuple[Any, Usage | None]] = [
    (None, None),
    ([], None),
    ({}, None),
    ({"total_tokens": 9}, None),
    ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}, Usage(3, 4, 9)),
    ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4, 7)),
    ({"prompt_tokens": 3}, Usage(3, 0, 3)),
    ({"prompt_tokens": "3", "completion_tokens": "4"}, Usage(3, 4, 7)),
    ({"prompt_tokens": 3.0, "completion_tokens": 4}, Usage(3, 4, 7)),
    (
        {
            "prompt_tokens": 9,
            "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 6},
        },
        Usage(9, 8, 17, 5, 6),
    ),
    ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}, Usage(9, 1, 10, 4)),
    ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(9, 1, 10)),
]


@pytest.mark.parametrize("count", [2**40, 2**62, 2**63 - 1, 10**30])
def test_a_count_that_no_model_can_have_is_none(count: int) -> None:
    """It would leave the range of a column when it is summed up, and the run could never be completed."""
    assert read_usage({"prompt_tokens": count, "completion_tokens": 3}) is None
    assert read_usage({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": count}) == Usage(2, 3, 5)


@pytest.mark.parametrize(("sent", "usage"), USAGES, ids=str)
def test_usage(sent: Any, usage: Usage | None) -> None:
    """Token counts are read as numbers or text, with their details; what is missing stays missing."""
    assert read_usage(sent) == usage


ODD_JSON: list[tuple[bytes, Any]] = [
    (b'{"a": "\\ud800"}', {"a": "\ufffd"}),
    (b'{"a": "x\\ude42\\ud83dy"}', {"a": "x\ufffd\ufffdy"}),
    (b'{"\\udfff": ["\\ud83d"]}', {"\ufffd": ["\ufffd"]}),
    (b'{"a": 1e400, "b": -1e400}', {"a": None, "b": None}),
    (b'{"a": "x\\u0000y"}', {"a": "x\x00y"}),
    (b'{"a": "\xed\xa0\x80"}', {"a": "\ufffd\ufffd\ufffd"}),
    (b'{"a": NaN, "b": Infinity, "c": 1}', {"a": None, "b": None, "c": 1}),
    (b'{"a": "x\ny\x00"}', {"a": "x\ny\x00"}),
    (b'{"a": "\xff"}', {"a": "\ufffd"}),
    (b'{"a": "\\ud83d\\ude42"}', {"a": "🙂"}),
]


@pytest.mark.parametrize(("text", "value"), ODD_JSON)
def test_json_as_endpoints_write_it(text: bytes, value: Any) -> None:
    """Lone surrogates, NaN, control characters and broken UTF-8 are read into what can be stored."""
    assert parse_json(text) == value


@pytest.mark.parametrize("text", [b"", b"{", b"<html>", b"[" * 200_000, b'{"a": NaN, "b": ' + b"[" * 200_000])
def test_no_json_is_a_value_error(text: bytes) -> None:
    """What is no JSON, or nested past all sense, is a ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("content", [None, ""])
def test_no_content_and_no_finish_reason_is_not_whole(content: str | None) -> None:
    """A plain answer that says nothing and names no end is a fault that may have been billed."""
    with pytest.raises(EndpointError) as caught:
        from_body(body({"role": "assistant", "content": content}, None))
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.DISCONNECTED, True)
