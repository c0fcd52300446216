"""The other request shapes: /completions, /embeddings and /responses, each asked and answered as the chat that it means.

Unstreamed only. Shapes are those of OpenAI's API reference. Pure: no clock, no connection.
"""

import base64
import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from batchrun.embedded.requests import ChatRequest
from batchrun.embedded.wire import FINGERPRINT, ApiError, Choice, Usage, encode

DIMENSIONS = 16
_MOST_DIMENSIONS = 4096
_KEPT = ("model", "temperature", "top_p", "seed", "stop", "n")


class Shape(msgspec.Struct, frozen=True):
    """`question` turns a body into the messages that it means, `reply` writes the answer of that chat in this shape.

    `limit` names the parameter that bounds the answer; None where no text is answered.
    """

    question: Callable[[dict[str, Any]], list[dict[str, Any]]]
    reply: Callable[[dict[str, Any], str, int, ChatRequest, list[Choice], Usage], dict[str, Any]]
    limit: str | None


def as_chat(shape: Shape, raw: bytes) -> tuple[dict[str, Any], bytes]:
    """The body as it came, and that of the chat it stands for. Raises ApiError."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    if body.get("stream"):
        raise ApiError(400, "Streaming is not supported here.", param="stream", code="unsupported_value")
    chat = {name: body[name] for name in _KEPT if body.get(name) is not None}
    if shape.limit is not None and body.get(shape.limit) is not None:
        chat["max_tokens"] = body[shape.limit]
    return body, encode({**chat, "messages": shape.question(body)})


def _user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _prompt(body: dict[str, Any]) -> list[dict[str, Any]]:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ApiError(400, "'prompt' must be one string here.", param="prompt", code="invalid_type")
    return _user(prompt)


def _inputs(body: dict[str, Any]) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ApiError(
            400, "'input' must be a string or an array of strings here, none empty.", param="input", code="invalid_type"
        )
    return texts


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a response's `instructions` and `input`."""
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise ApiError(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    messages = _user(given) if isinstance(given, str) else []
    for item in given if isinstance(given, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("role"), str):
            raise ApiError(400, "Only messages are understood in 'input' here.", param="input", code="invalid_value")
        content = item.get("content")
        if isinstance(content, list):
            texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
            content = "\n".join(texts)
        messages.append({"role": item["role"], "content": content})
    if isinstance(body.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    return messages


def _completion(
    _body: dict[str, Any], name: str, created: int, request: ChatRequest, choices: list[Choice], usage: Usage
) -> dict[str, Any]:
    return {
        "id": f"cmpl-{name}",
        "object": "text_completion",
        "created": created,
        "model": request.model,
        "choices": [
            {"index": index, "text": choice.text, "logprobs": None, "finish_reason": choice.finish_reason}
            for index, choice in enumerate(choices)
        ],
        "usage": usage,
        "system_fingerprint": FINGERPRINT,
    }


def _response(
    body: dict[str, Any], name: str, created: int, request: ChatRequest, choices: list[Choice], usage: Usage
) -> dict[str, Any]:
    whole = choices[0].finish_reason == "stop"
    status = "completed" if whole else "incomplete"
    content = [{"type": "output_text", "text": choices[0].text, "annotations": []}]
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "instructions": body.get("instructions"),
        "model": request.model,
        "output": [{"id": f"msg_{name}", "type": "message", "role": "assistant", "status": status, "content": content}],
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.total_tokens,
        },
    }


def _embeddings(
    body: dict[str, Any], _name: str, _created: int, request: ChatRequest, _choices: list[Choice], usage: Usage
) -> dict[str, Any]:
    size = body.get("dimensions") or DIMENSIONS
    if not isinstance(size, int) or not 1 <= size <= _MOST_DIMENSIONS:
        raise ApiError(400, f"'dimensions' must be 1 to {_MOST_DIMENSIONS}.", param="dimensions", code="invalid_value")
    vectors: list[Any] = [_vector(text, size) for text in _inputs(body)]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)],
        "model": request.model,
        "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
    }


def _vector(text: str, size: int) -> list[float]:
    """A vector of length one from the hashes of a text's words: texts with words in common are near each other."""
    sums = [0.0] * size
    for word in text.lower().split() or [text]:
        for place in range(size):
            digest = blake2b(word.encode(), digest_size=4, salt=place.to_bytes(4, "little")).digest()
            sums[place] += int.from_bytes(digest, "little") / 2**31 - 1
    length = sum(number * number for number in sums) ** 0.5
    return [round(number / length, 7) for number in sums]


SHAPES = {
    "/completions": Shape(_prompt, _completion, "max_tokens"),
    "/responses": Shape(_items, _response, "max_output_tokens"),
    "/embeddings": Shape(lambda body: _user("\n".join(_inputs(body))), _embeddings, None),
}
