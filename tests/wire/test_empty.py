"""Answers with nothing in them, and where reasoning is put (contract.md §5, endpoint.md §7)."""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import pytest

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, Kind
from batchrun.records import CHAT, COMPLETIONS, EMBEDDINGS, Answer, Request
from batchrun.sections import Timeouts
from batchrun.wire.client import Client
from batchrun.wire.decode.reasoning import split_thinking

USAGE = {"prompt_tokens": 10, "completion_tokens": 32, "total_tokens": 42}


class Body(httpx.AsyncByteStream):
    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.sent


async def asked(
    sent: bytes | dict[str, Any],
    *,
    status: int = 200,
    body: bytes = b'{"model":"m"}',
    path: str = CHAT,
    empty: Literal["retry", "fail", "ok"] = "retry",
    split_think: bool = False,
) -> Answer:
    data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, stream=Body(data))

    client = Client(
        "http://h/v1/chat/completions",
        Transport(),
        timeouts=Timeouts(),
        clock=SystemClock(),
        empty=empty,
        split_think=split_think,
    )
    return await client.complete(Request(0, "0", "default", 0, body, "h", "m", path=path))


async def fault(sent: bytes | dict[str, Any], **more: Any) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        await asked(sent, **more)
    return caught.value


def plain(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": USAGE, **more}


def streamed(*deltas: dict[str, Any], finish: str | None = "stop", usage: bool = True) -> bytes:
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish is not None:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({"choices": [], "usage": USAGE})
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


EMPTY: dict[str, dict[str, Any] | bytes] = {
    "null": plain({"role": "assistant", "content": None}),
    "no text": plain({"content": ""}),
    "blanks": plain({"content": " \n"}),
    "no content at all": plain({"role": "assistant"}),
    "empty parts": plain({"content": [{"type": "text", "text": ""}]}),
    "empty calls": plain({"content": None, "tool_calls": []}),
    "a stream without text": streamed({"role": "assistant", "content": ""}),
    "reasoning alone": plain({"content": None, "reasoning_content": "hm"}),
    "reasoning in tags alone": plain({"content": "<think>hm</think>\n"}),
    "a call that Google could not make": plain({"content": None}, "malformed_function_call"),
    "Google's other": plain({"role": "assistant"}, "OTHER"),
    "recitation": plain({"role": "assistant"}, "RECITATION"),
    "a filter": plain({"role": "assistant"}, "content_filter: SAFETY"),
    "safety in a stream": streamed({"role": "assistant"}, finish="SAFETY"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("sent", EMPTY.values(), ids=EMPTY)
async def test_an_empty_answer_is_a_fault_that_was_paid_for(sent: dict[str, Any] | bytes) -> None:
    """It may be asked again, names its finish reason, and carries its usage; it is not unconfirmed."""
    error = await fault(sent)
    assert (error.kind, error.should_retry, error.unconfirmed) == (Kind.EMPTY_OUTPUT, None, False)
    assert error.message.startswith("the answer is empty (finish_reason ")
    assert error.usage is not None
    assert error.usage.completion == 32


@pytest.mark.anyio
@pytest.mark.parametrize("sent", EMPTY.values(), ids=EMPTY)
async def test_the_job_says_what_an_empty_answer_is(sent: dict[str, Any] | bytes) -> None:
    """`fail` asks no second time, `ok` takes it as it came, its finish reason with it."""
    assert (await fault(sent, empty="fail")).should_retry is False
    answer = await asked(sent, empty="ok")
    assert (answer.usage.completion, bool(answer.finish_reason)) == (32, True)


NOT_EMPTY = {
    "text": plain({"content": "x"}),
    "a call": plain({"content": None, "tool_calls": [{"id": "a", "function": {"name": "f"}}]}, "tool_calls"),
    "a refusal": plain({"content": None, "refusal": "no"}),
    "sound": plain({"content": None, "audio": {"data": "AAAA"}}),
    "an image": plain({"content": "", "images": [{"image_url": {"url": "data:"}}]}),
    "an image as a part": plain({"content": [{"type": "image_url", "image_url": {"url": "data:"}}]}),
    "text that a filter cut": plain({"content": "x"}, "content_filter"),
    "text that another filter cut": plain({"content": "x"}, "SAFETY"),
    "text behind reasoning": plain({"content": "<think>hm</think>x"}),
    "an image in a stream": streamed({"content": ""}, {"images": [{"image_url": {"url": "data:"}}]}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("sent", NOT_EMPTY.values(), ids=NOT_EMPTY)
async def test_what_is_not_empty(sent: dict[str, Any] | bytes) -> None:
    """Anything that was asked for may be the answer: not only text."""
    assert (await asked(sent)).finish_reason is not None


@pytest.mark.anyio
async def test_the_other_shapes_are_held_to_the_same() -> None:
    """A vector is an answer, a line break of a text completion is text; a completion without text is empty."""
    vector = {"data": [{"index": 0, "embedding": [1.0]}], "usage": USAGE}
    assert (await asked(vector, path=EMBEDDINGS, body=b'{"input":"x"}')).embeddings
    for text, kind in (("\n", None), ("", Kind.EMPTY_OUTPUT)):
        sent = {"choices": [{"text": text, "finish_reason": "stop"}], "usage": USAGE}
        if kind is None:
            assert (await asked(sent, path=COMPLETIONS)).completion == text
        else:
            assert (await fault(sent, path=COMPLETIONS)).kind is kind


LENGTH: dict[str, dict[str, Any] | bytes] = {
    "reasoning": plain({"content": None, "reasoning_content": "hm"}, "length"),
    "reasoning that is only counted": plain(
        {"content": ""}, "MAX_TOKENS", usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 32}}
    ),
    "an open tag": plain({"content": "<think>hm hm"}, "length"),
    "a stream": streamed({"reasoning": "hm"}, finish="length"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("sent", LENGTH.values(), ids=LENGTH)
async def test_reasoning_that_took_all_tokens_is_not_asked_again(sent: dict[str, Any] | bytes) -> None:
    """The same max_tokens would be used up in the same way: the message says what to raise."""
    error = await fault(sent)
    assert (error.kind, error.should_retry) == (Kind.EMPTY_OUTPUT, False)
    assert "32 tokens were used up by the reasoning; raise max_tokens" in error.message


@pytest.mark.anyio
@pytest.mark.parametrize("reason", ["malformed_function_call", "OTHER", "error"])
@pytest.mark.parametrize("stream", [True, False])
async def test_half_an_answer_is_none(reason: str, stream: bool) -> None:
    """Text before a reason that ends no answer is half of one: a fault, with what was used."""
    sent = streamed({"content": "half"}, finish=reason) if stream else plain({"content": "half"}, reason)
    error = await fault(sent)
    assert (error.kind, error.unconfirmed) == (Kind.DISCONNECTED, True)
    assert error.usage is not None


ERROR = {"code": 502, "message": "Provider disconnected"}
PAID: dict[str, tuple[dict[str, Any] | bytes, bool, int | None]] = {
    "an error in a choice, with usage": (plain({"content": "half"}, "error", error=ERROR), False, 32),
    "an error in a choice behind content": (
        {"choices": [{"message": {"content": "half"}, "error": ERROR}]},
        True,
        None,
    ),
    "no choices, with usage": ({"choices": [], "usage": USAGE}, False, 32),
    "choices null, with usage": ({"choices": None, "usage": USAGE}, False, 32),
    "no choices": ({"choices": []}, True, None),
    "an error in a stream behind content": (
        streamed({"content": "half"}, finish=None, usage=False)[:-14] + b"data: %b\n\n" % json.dumps({"error": ERROR}).encode(),
        True,
        None,
    ),
    "an error in a stream with usage": (
        b"data: %b\n\n" % json.dumps({"error": ERROR, "usage": USAGE, "choices": [{"delta": {"content": "x"}}]}).encode(),
        False,
        32,
    ),
    "a stream without its end, with usage": (streamed({"content": "half"}, finish=None), True, 32),
    "an error before anything": (b"data: %b\n\n" % json.dumps({"error": ERROR}).encode(), False, None),
    "an error instead of an answer": ({"error": ERROR}, False, None),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(("sent", "unconfirmed", "completion"), PAID.values(), ids=PAID)
async def test_what_a_fault_may_have_cost_goes_with_it(
    sent: dict[str, Any] | bytes, unconfirmed: bool, completion: int | None
) -> None:
    """Stated usage is kept; where there is none and something of an answer came, it may have been billed."""
    error = await fault(sent)
    assert (error.unconfirmed, error.usage and error.usage.completion) == (unconfirmed, completion)


GATEWAYS = [
    (504, b"<html><title>504 Gateway Time-out</title></html>", True),
    (524, b"", True),
    (408, b"", True),
    (500, b'{"error":{"message":"litellm.Timeout: Request timed out","type":"timeout"}}', True),
    (500, b'{"error":{"message":"upstream request timeout"}}', True),
    (200, b'{"error":{"code":504,"message":"The operation was aborted"}}', True),
    (503, b"upstream connect error or disconnect/reset before headers. reset reason: connection timeout", False),
    (502, b"Bad Gateway", False),
    (503, b"", False),
    (429, b'{"error":{"message":"upstream request timeout","type":"rate_limit_error"}}', False),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "body", "unconfirmed"), GATEWAYS)
async def test_a_gateway_that_gave_up_may_have_billed(status: int, body: bytes, unconfirmed: bool) -> None:
    """What a gateway no longer waited for was made all the same; where it reached nobody, or refused, nothing was."""
    assert (await fault(body, status=status)).unconfirmed is unconfirmed


@pytest.mark.anyio
async def test_usage_in_an_error_answer_is_kept() -> None:
    """A refusal that states what it used is priced by that."""
    error = await fault({"error": {"message": "no valid JSON"}, "usage": USAGE}, status=400)
    assert error.usage is not None


REASONING: dict[str, dict[str, Any]] = {
    "reasoning_content": {"content": "x", "reasoning_content": "hm"},
    "reasoning": {"content": "x", "reasoning": "hm"},
    "an empty one and a full one": {"content": "x", "reasoning_content": "", "reasoning": "hm"},
    "details": {"content": "x", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
    "a summary": {"content": "x", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
    "details beside the same text": {
        "content": "x",
        "reasoning": "hm",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
    },
    "Mistral's parts": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "x"},
        ]
    },
    "Anthropic's parts": {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "x"}]},
    "parts of text that are reasoning": {
        "content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "x"}]
    },
}


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("message", REASONING.values(), ids=REASONING)
async def test_reasoning_is_found_wherever_it_stands(message: dict[str, Any], stream: bool) -> None:
    """Once, and never within the answer's own text."""
    sent = streamed({"role": "assistant"}, message) if stream else plain(message)
    answer = await asked(sent)
    assert (answer.completion, answer.reasoning) == ("x", "hm")


@pytest.mark.anyio
async def test_details_in_a_running_stream_are_joined() -> None:
    """Also where they come behind the first content, on the fast way."""
    parts = [{"reasoning_details": [{"type": "reasoning.text", "text": text}]} for text in "abc"]
    answer = await asked(streamed({"content": "x"}, *parts))
    assert (answer.completion, answer.reasoning) == ("x", "abc")


THINKING = [
    ("<think>hm</think>\n\nx", "hm", "x"),
    ("\n<think>\nhm\n</think>x", "hm", "x"),
    ("hm\n</think>\n\nx", "hm", "x"),
    ("<think></think>x", "", "x"),
    ("<think>hm", "hm", ""),
    ("<thinking>hm</thinking> x", "hm", "x"),
    ("[THINK]hm[/THINK]x", "hm", "x"),
    ("◁think▷hm◁/think▷x", "hm", "x"),
    ("x <think>hm</think>", None, "x <think>hm</think>"),
    ("x", None, "x"),
    ("", None, ""),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("text", "thought", "rest"), THINKING)
async def test_thinking_at_the_head_of_a_text(text: str, thought: str | None, rest: str) -> None:
    """Left in place by default; split off where the job says so. In the middle of a text tags are text."""
    assert split_thinking(text) == (thought, rest)
    if rest:
        assert (await asked(plain({"content": text}))).completion == text
        split = await asked(plain({"content": text}), split_think=True)
        assert (split.completion, split.reasoning) == (rest, thought)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_estimate_is_no_more_than_was_allowed(name: str) -> None:
    """Four bytes a token is too many for some texts: what could not be used is not estimated."""
    sent = {"choices": [{"message": {"content": "word " * 100}, "finish_reason": "length"}]}
    body = json.dumps({"model": "m", name: 7}, separators=(",", ":")).encode()
    usage = (await asked(sent, body=body)).usage
    assert (usage.completion, usage.total, usage.source) == (7, usage.prompt + 7, "estimated")
