"""The shapes on the wire: errors, completions, chunks and server-sent events, as bytes.

Shapes are those of OpenAI's chat completions reference and of endpoint.md §1. Pure: no clock, no connection.
"""

from typing import Any

import msgspec

FINGERPRINT = "fp_embedded_1"
DONE = b"data: [DONE]\n\n"
encode = msgspec.json.Encoder().encode


class ApiError(Exception):
    """A request that is refused: HTTP status and the four fields of OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = encode({"error": {"message": message, "type": kind, "param": param, "code": code}})
        self.headers: list[tuple[bytes, bytes]] = []


def error_body(status: int) -> dict[str, Any]:
    """Give a plausible error object for a scripted status."""
    kind, code, message = _BY_STATUS.get(status, ("server_error", None, "The server had an error. Please retry."))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_BY_STATUS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", "invalid_request", "The request is invalid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "insufficient_quota", "The balance of this account is used up."),
    403: ("invalid_request_error", "forbidden", "This key may not use this resource."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    503: ("server_error", "overloaded", "The engine is currently overloaded, please try again later."),
}

HTML_PAGE = b"""<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>
</center><hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"""
GARBAGE = b'upstream said: \xff\xfe{"choices": [ <not json>'


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One generated answer."""

    text: str
    finish_reason: str


class Message(msgspec.Struct, frozen=True, gc=False):
    role: str
    content: str


class WholeChoice(msgspec.Struct, frozen=True, gc=False):
    index: int
    message: Message
    finish_reason: str
    logprobs: None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(msgspec.Struct, frozen=True, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[WholeChoice]
    usage: Usage
    system_fingerprint: str


def completion(name: str, created: int, model: str, choices: list[Choice], usage: Usage) -> bytes:
    whole = [
        WholeChoice(index, Message("assistant", choice.text), choice.finish_reason)
        for index, choice in enumerate(choices)
    ]
    return encode(Completion(name, "chat.completion", created, model, whole, usage, FINGERPRINT))


def event(value: Any) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def chunks(
    name: str,
    created: int,
    model: str,
    choices: list[Choice],
    pieces: list[list[str]],
    usage: Usage | None,
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Give a stream's events: those before the first token, one for each token, and those behind the last.

    With `usage` every chunk carries `usage: null` and one more, without choices, carries the counts.
    """
    frame: dict[str, Any] = {
        "id": name,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "system_fingerprint": FINGERPRINT,
    }

    def one(index: int, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        shown = {**frame, "choices": [choice]}
        if usage is not None:
            shown["usage"] = None
        return event(shown)

    head = [one(index, {"role": "assistant", "content": ""}, None) for index in range(len(choices))]
    body = [one(index, {"content": piece}, None) for index, texts in enumerate(pieces) for piece in texts]
    tail = [one(index, {}, choice.finish_reason) for index, choice in enumerate(choices)]
    if usage is not None:
        tail.append(event({**frame, "choices": [], "usage": usage}))
    tail.append(DONE)
    return head, body, tail
