"""Answers of /completions, /responses and /embeddings: what is read, and what is not whole (contract.md §7.6)."""

import base64
import json
import struct
from array import array
from typing import Any

import httpx
import pytest

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, Kind
from batchrun.records import COMPLETIONS, EMBEDDINGS, RESPONSES, Answer, Request, Usage
from batchrun.sections import Timeouts
from batchrun.wire.address import beside
from batchrun.wire.client import Client
from batchrun.wire.decode.shapes import count_inputs, decoder_for


def asked(path: str, **body: Any) -> Request:
    return Request(0, "0", "default", 0, json.dumps({"model": "m", **body}).encode(), "h", "m", False, path)


def answered(path: str, sent: Any, **body: Any) -> Answer:
    """The answer to a request, from a body that comes in two reads."""
    decoder = decoder_for(asked(path, **body))
    data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    decoder.feed(data[: len(data) // 2])
    decoder.feed(data[len(data) // 2 :])
    return decoder.finish()


def events(*values: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


def text(said: str, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": said, "finish_reason": finish}], **more}


def item(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


SAID = item({"type": "output_text", "text": "hel"}, {"type": "output_text", "text": "lo"})
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}


def responded(*output: dict[str, Any], status: Any = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "error": None, "output": list(output), **more}


def vectors(*given: Any, **more: Any) -> dict[str, Any]:
    return {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(given)], **more}


CHUNKS = [text("hel", None), text("lo", None), text("", "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})]
WHOLE: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "completion": (COMPLETIONS, text(" hi", id="cmpl-1"), {"completion": " hi", "response_id": "cmpl-1"}),
    "completion, cut by length": (COMPLETIONS, text("h", "length"), {"finish_reason": "length"}),
    "completion without a reason": (COMPLETIONS, text("hi", None), {"completion": "hi", "finish_reason": None}),
    "completion, a chat's form": (COMPLETIONS, {"choices": [{"message": {"content": "hi"}}]}, {"completion": "hi"}),
    "streamed completion": (
        COMPLETIONS,
        events(*CHUNKS) + b"data: [DONE]\n\n",
        {"completion": "hello", "finish_reason": "stop", "usage": Usage(3, 2, 5)},
    ),
    "response": (
        RESPONSES,
        responded(
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            SAID,
            model="m-1",
            created_at=17.0,
            usage={
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 5},
                "output_tokens": 8,
                "output_tokens_details": {"reasoning_tokens": 6},
                "total_tokens": 17,
            },
        ),
        {
            "completion": "hello",
            "finish_reason": "stop",
            "reasoning": "hm",
            "usage": Usage(9, 8, 17, 5, 6),
            "response_id": "resp_1",
            "model": "m-1",
            "created": 17,
            "refusal": None,
            "tool_calls": None,
        },
    ),
    "response, reasoning text": (
        RESPONSES,
        responded({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]}, SAID),
        {"reasoning": "r"},
    ),
    "response, refusal": (
        RESPONSES,
        responded(item({"type": "refusal", "refusal": "no"})),
        {"completion": None, "refusal": "no", "finish_reason": "stop"},
    ),
    "response, function call": (
        RESPONSES,
        responded(CALL),
        {"completion": None, "tool_calls": json.dumps([CALL], separators=(",", ":")), "finish_reason": "tool_calls"},
    ),
    "response, cut by length": (
        RESPONSES,
        responded(SAID, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        {"completion": "hello", "finish_reason": "length"},
    ),
    "response, filtered": (
        RESPONSES,
        responded(status="incomplete", incomplete_details={"reason": "content_filter"}),
        {"completion": None, "finish_reason": "content_filter"},
    ),
    "response without usage": (RESPONSES, responded(SAID), {"usage": Usage(0, 0, 0, source="missing")}),
    "streamed response": (
        RESPONSES,
        events(
            {"type": "response.created", "response": responded(status="in_progress")},
            {"type": "response.output_text.delta", "delta": "hello"},
            {"type": "response.completed", "response": responded(SAID)},
        ),
        {"completion": "hello", "finish_reason": "stop"},
    ),
}


@pytest.mark.parametrize(("path", "sent", "expected"), WHOLE.values(), ids=WHOLE)
def test_whole_answers(path: str, sent: Any, expected: dict[str, Any]) -> None:
    """Each shape is read into the columns that a chat's answer has, plain or streamed."""
    answer = answered(path, sent)
    assert {key: getattr(answer, key) for key in expected} == expected


def doubles(*numbers: float) -> bytes:
    return array("d", numbers).tobytes()


def coded(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


VECTORS: dict[str, tuple[Any, dict[str, Any], list[bytes]]] = {
    "one text": ("a", vectors([0.1, -2, 3e-9]), [doubles(0.1, -2, 3e-9)]),
    "one in a list": (["a"], vectors([0.1]), [doubles(0.1)]),
    "tokens of one text": ([1, 2, 3], vectors([0.1]), [doubles(0.1)]),
    "several": (["a", "b"], vectors([1.0], [2.0]), [doubles(1), doubles(2)]),
    "tokens of several": ([[1], [2, 3]], vectors([1.0], [2.0]), [doubles(1), doubles(2)]),
    "out of order": (
        ["a", "b"],
        {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]},
        [doubles(1), doubles(2)],
    ),
    "without indexes": (["a", "b"], {"data": [{"embedding": [1]}, {"embedding": [2]}]}, [doubles(1), doubles(2)]),
    "base64": ("a", vectors(coded(0.5, -0.25)), [doubles(0.5, -0.25)]),
}


@pytest.mark.parametrize(("given", "sent", "expected"), VECTORS.values(), ids=VECTORS)
def test_vectors(given: Any, sent: dict[str, Any], expected: list[bytes]) -> None:
    """One vector an input, in the order of the inputs, unrounded; base64 is decoded."""
    assert len(expected) == count_inputs(given)
    answer = answered(EMBEDDINGS, {**sent, "usage": {"prompt_tokens": 3, "total_tokens": 3}}, input=given)
    assert answer.embeddings == expected
    assert (answer.completion, answer.finish_reason, answer.usage) == (None, None, Usage(3, 0, 3))


TWO = vectors([1.0], [2.0])
NOT_WHOLE: dict[str, tuple[str, Any, Kind]] = {
    "completion: no choices": (COMPLETIONS, {"choices": []}, Kind.MALFORMED),
    "completion: neither text nor end": (COMPLETIONS, text("", None), Kind.DISCONNECTED),
    "completion: broken off": (COMPLETIONS, text("hi", "error"), Kind.DISCONNECTED),
    "completion: stream cut": (COMPLETIONS, events(*CHUNKS[:2]) + b"data: [DONE]\n\n", Kind.DISCONNECTED),
    "completion: error in the stream": (
        COMPLETIONS,
        events(CHUNKS[0], {"error": {"message": "x", "code": "rate_limit_exceeded"}}),
        Kind.RATE_LIMITED,
    ),
    "completion: cut JSON": (COMPLETIONS, json.dumps(text("hi")).encode()[:-3], Kind.MALFORMED),
    "response: under way": (RESPONSES, responded(SAID, status="in_progress"), Kind.DISCONNECTED),
    "response: queued": (RESPONSES, responded(status="queued"), Kind.DISCONNECTED),
    "response: cancelled": (RESPONSES, responded(SAID, status="cancelled"), Kind.DISCONNECTED),
    "response: no status": (RESPONSES, responded(SAID, status=None), Kind.DISCONNECTED),
    "response: a chat's answer": (RESPONSES, {"choices": [{"message": {"content": "hi"}}]}, Kind.MALFORMED),
    "response: failed": (
        RESPONSES,
        {**responded(status="failed"), "error": {"code": "server_error", "message": "x"}},
        Kind.SERVER,
    ),
    "response: stream cut": (
        RESPONSES,
        events(
            {"type": "response.created", "response": responded(status="in_progress")},
            {"type": "response.output_text.delta", "delta": "hello"},
        ),
        Kind.DISCONNECTED,
    ),
    "response: stream that failed": (
        RESPONSES,
        events(
            {
                "type": "response.failed",
                "response": {**responded(), "error": {"code": "rate_limit_exceeded", "message": "x"}},
            }
        ),
        Kind.RATE_LIMITED,
    ),
    "response: empty stream": (RESPONSES, b": ping\n\ndata: [DONE]\n\n", Kind.DISCONNECTED),
    "embeddings: one missing": (EMBEDDINGS, vectors([1.0]), Kind.MALFORMED),
    "embeddings: one too many": (EMBEDDINGS, vectors([1.0], [2.0], [3.0]), Kind.MALFORMED),
    "embeddings: one twice": (EMBEDDINGS, {"data": [{**TWO["data"][0]}, {**TWO["data"][0]}]}, Kind.MALFORMED),
    "embeddings: an odd index": (EMBEDDINGS, {"data": [{"index": [], "embedding": [1]}] * 2}, Kind.MALFORMED),
    "embeddings: of two lengths": (EMBEDDINGS, vectors([1.0], [2.0, 3.0]), Kind.MALFORMED),
    "embeddings: empty": (EMBEDDINGS, vectors([], []), Kind.MALFORMED),
    "embeddings: null": (EMBEDDINGS, vectors(None, [1.0]), Kind.MALFORMED),
    "embeddings: NaN": (EMBEDDINGS, b'{"data":[{"embedding":[NaN]},{"embedding":[1]}]}', Kind.MALFORMED),
    "embeddings: NaN in base64": (EMBEDDINGS, vectors(coded(float("nan")), coded(1)), Kind.MALFORMED),
    "embeddings: text": (EMBEDDINGS, vectors(["a"], [1.0]), Kind.MALFORMED),
    "embeddings: no base64": (EMBEDDINGS, vectors("?!", coded(1)), Kind.MALFORMED),
    "embeddings: cut base64": (EMBEDDINGS, vectors(coded(1, 2)[:-4], coded(1, 2)), Kind.MALFORMED),
    "embeddings: a stream": (EMBEDDINGS, events(TWO), Kind.DISCONNECTED),
    "embeddings: error in a stream": (
        EMBEDDINGS,
        events({"error": {"message": "Incorrect API key"}}),
        Kind.CREDENTIALS,
    ),
}


@pytest.mark.parametrize(("path", "sent", "kind"), NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_no_answer_that_is_not_known_to_be_whole(path: str, sent: Any, kind: Kind) -> None:
    """What was cut, is still under way, or misses a vector is a fault of its kind, and never an answer."""
    with pytest.raises(EndpointError) as caught:
        answered(path, sent, input=["a", "b"])
    assert caught.value.kind is kind


@pytest.mark.parametrize("path", [COMPLETIONS, RESPONSES, EMBEDDINGS])
@pytest.mark.anyio
async def test_each_path_on_the_same_base(path: str) -> None:
    """A request goes to its own path beside the chat completions; missing usage is estimated from the bytes."""
    sent = {COMPLETIONS: text("hi"), RESPONSES: responded(SAID), EMBEDDINGS: vectors([1.0])}[path]
    requests: list[httpx.Request] = []

    def answer_it(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=sent)

    url = "https://host.example/v1/chat/completions"
    request = asked(path, input="a")
    client = Client(url, httpx.MockTransport(answer_it), timeouts=Timeouts(), clock=SystemClock())
    answer = await client.complete(request)
    assert str(requests[0].url) == f"https://host.example/v1{path}"
    assert json.loads(requests[0].content) == {"model": "m", "input": "a"}
    assert (answer.usage.source, answer.usage.prompt) == ("estimated", -(-len(request.body) // 4))
    assert (answer.embeddings is not None) == (path == EMBEDDINGS)


def test_a_query_is_kept() -> None:
    """Azure's api-version goes with every path."""
    url = "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"
    assert httpx.URL(beside(url, EMBEDDINGS)).raw_path == b"/openai/deployments/d/embeddings?api-version=1"
