"""Answers of the other request shapes: /completions, /responses and /embeddings, plain or streamed.

None of them is asked to be streamed; an endpoint that streams all the same is understood, and held to the same: no
answer that is not known to be whole. Sources: OpenAI's API reference ("Completions", "Responses", "Embeddings",
"Streaming events"). A text completion becomes a chat's and goes that way.
"""

import base64
import binascii
import math
import sys
from array import array
from typing import Any

import msgspec

from batchrun.errors import EndpointError, Kind
from batchrun.records import CHAT, COMPLETIONS, RESPONSES, Answer, Request, Usage
from batchrun.wire.decode.answer import assemble, from_body, parse_json, refuse_broken
from batchrun.wire.decode.chunks import Fold, listed
from batchrun.wire.decode.reasoning import flat_text
from batchrun.wire.decode.stream import Decoder
from batchrun.wire.decode.usage import stated_usage
from batchrun.wire.faults.classify import error_in

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_CLIENTS_CALLS = frozenset({"function_call", "custom_tool_call"})


def decoder_for(request: Request) -> Decoder:
    """The decoder of an answer to a request that is no chat."""
    if request.path == COMPLETIONS:
        return Decoder(read_completion, _TextFold())
    if request.path == RESPONSES:
        return Decoder(read_response, _LastEvent())
    inputs = count_inputs(msgspec.json.decode(request.body).get("input"))
    return Decoder(lambda body: read_embeddings(body, inputs), _NoStream())


def read_completion(body: dict[str, Any]) -> Answer:
    """A text completion's answer. Raises EndpointError."""
    return from_body(_as_chat(body))


def read_response(body: dict[str, Any]) -> Answer:
    """A response's answer; `status` says whether it is whole, in a chat's words. Raises EndpointError.

    `completed` is `stop`, or `tool_calls` where the caller has to act; `incomplete` is `length`, `content_filter` or its
    own reason. What is still under way, was cancelled or has failed is no answer.
    """
    items = [item for item in listed(body.get("output")) if isinstance(item, dict)]
    status = body.get("status")
    if status == "completed":
        finish = "tool_calls" if any(item.get("type") in _CLIENTS_CALLS for item in items) else "stop"
    elif status == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        finish = "length" if reason == "max_output_tokens" else str(reason or "incomplete")
        refuse_broken(finish)
    elif "output" not in body:
        raise EndpointError(Kind.MALFORMED, "the answer has no output", unconfirmed=True)
    else:
        message = f"the response is not known to be whole (status {status})"
        raise EndpointError(Kind.DISCONNECTED, message, unconfirmed=True)
    envelope = {**body, "created": body.get("created_at", body.get("created"))}
    return assemble(envelope, _message(items), finish)


def _message(items: list[dict[str, Any]]) -> dict[str, Any]:
    """The items of a response's output as one message; calls stay as they were sent."""
    parts = [part for item in items if item.get("type") == "message" for part in _parts(item.get("content"))]
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    reasoning = [
        flat_text(item.get("summary")) or flat_text(item.get("content"))
        for item in thoughts
        if isinstance(item.get("summary"), list) or isinstance(item.get("content"), list)
    ]
    return {
        "content": _joined(parts, "output_text", "text"),
        "refusal": _joined(parts, "refusal", "refusal"),
        "reasoning": "\n\n".join(text for text in reasoning if text) or None,
        "tool_calls": [item for item in items if str(item.get("type")).endswith("_call")],
    }


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}]
    return [part for part in listed(content) if isinstance(part, dict)]


def _joined(parts: list[dict[str, Any]], kind: str, key: str) -> str | None:
    texts = [part[key] for part in parts if part.get("type") == kind and isinstance(part.get(key), str)]
    return "".join(texts) if texts else None


def count_inputs(value: Any) -> int:
    """How many vectors an `input` asks for: a text or one list of tokens is one, of several each is one."""
    return len(value) if isinstance(value, list) and value and isinstance(value[0], str | list) else 1


class _Wanted(msgspec.Struct):
    n: int | None = None
    prompt: Any = None


def choices_of(request: Request) -> int:
    """How many choices an answer has when it is whole."""
    if request.path == CHAT and b'"n":' not in request.body:  # a body may be many megabytes
        return 1
    try:
        wanted = msgspec.json.decode(request.body, type=_Wanted)
    except msgspec.MsgspecError:
        return 1
    return max(wanted.n or 1, 1) * (1 if wanted.prompt is None else count_inputs(wanted.prompt))


def read_embeddings(body: dict[str, Any], inputs: int) -> Answer:
    """The vectors, in the order of the inputs: exactly one for each, all of numbers. Raises EndpointError(malformed)."""
    data = [one for one in listed(body.get("data")) if isinstance(one, dict)]
    indexes = [place if one.get("index") is None else one["index"] for place, one in enumerate(data)]
    if len(data) != inputs or {str(index) for index in indexes} != set(map(str, range(inputs))):
        raise _no_vectors(f"the answer has {len(data)} vectors for {inputs} inputs")
    vectors = [b""] * inputs
    for index, one in zip(indexes, data, strict=True):
        vectors[int(index)] = _packed(one.get("embedding"))
    if len({len(vector) for vector in vectors}) > 1:
        raise _no_vectors("the answer's vectors are not of one length")
    return msgspec.structs.replace(assemble(body, {}, None), embeddings=vectors)


def _packed(vector: Any) -> bytes:
    """A list of numbers, or base64 of little-endian 32-bit floats (`encoding_format`), as packed doubles."""
    try:
        if isinstance(vector, str):
            found = array("f", base64.b64decode(vector, validate=True))
            if sys.byteorder == "big":
                found.byteswap()
            numbers = array("d", found)
        else:
            numbers = array("d", vector)
    except (TypeError, ValueError, OverflowError, binascii.Error):
        raise _no_vectors("an embedding of the answer is neither a list of numbers nor base64 of them") from None
    if not numbers or not all(map(math.isfinite, numbers)):
        raise _no_vectors("an embedding of the answer is empty or has a number that is none")
    return numbers.tobytes()


def _no_vectors(message: str) -> EndpointError:
    return EndpointError(Kind.MALFORMED, message, unconfirmed=True)


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A text completion, or a chunk of one, with its texts where a chat has them."""
    choices = [
        {**choice, "message": {"content": choice["text"]}} if isinstance(choice, dict) and "text" in choice else choice
        for choice in listed(body.get("choices"))
    ]
    return {**body, "choices": choices}


class _TextFold(Fold):
    """The chunks of a streamed text completion."""

    def take(self, data: bytes) -> bool:
        chunk = parse_json(data)
        return super().take(msgspec.json.encode(_as_chat(chunk)) if isinstance(chunk, dict) else data)


class _LastEvent:
    """The events of a streamed response: only the last one, which holds the whole of it, is an answer."""

    def __init__(self) -> None:
        self.choices: list[dict[str, Any]] = []
        self.has_content = False
        self._ended = False

    def take(self, data: bytes) -> bool:
        event = parse_json(data)
        if not isinstance(event, dict):
            return False
        response = event.get("response")
        self.has_content = self.has_content or isinstance(event.get("delta"), str)
        if isinstance(response, dict):
            self.choices = [response]
        fault = error_in(event) or (error_in(response) if isinstance(response, dict) else None)
        if fault is not None:
            raise fault
        if isinstance(response, dict):
            self._ended = event.get("type") in _TERMINAL
        return isinstance(event.get("delta"), str)

    def has_ended(self, choices: int) -> bool:  # noqa: ARG002 - a response is one
        return self._ended

    @property
    def model(self) -> str | None:
        model = self.choices[0].get("model") if self.choices else None
        return model if isinstance(model, str) else None

    def usage(self) -> Usage | None:
        return stated_usage(self.choices[0]) if self.choices else None

    def answer(self) -> Answer:
        if not self._ended:
            fault = "the stream ended before its response did: the answer is not known to be whole"
            raise EndpointError(Kind.DISCONNECTED, fault, unconfirmed=True)
        return read_response(self.choices[0])


class _NoStream:
    """Embeddings are never streamed: what comes as events is looked through for errors, and is no answer."""

    choices = ()
    model = None
    has_content = False

    def usage(self) -> Usage | None:
        return None

    def take(self, data: bytes) -> bool:
        fault = error_in(parse_json(data))
        if fault is not None:
            raise fault
        return False

    def has_ended(self, choices: int) -> bool:  # noqa: ARG002
        return False

    def answer(self) -> Answer:
        raise _no_vectors("embeddings came as a stream")
