"""A JSON body or the sum of a stream's chunks → Answer. Lenient in what it reads, strict in what it calls whole.

Source of the shapes: the API page and endpoint.md §1–§2. Knows nothing of connections, retries or prices.
"""

import json
from typing import Any

import msgspec

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Usage

_STANDARD = {
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end": "stop",
    "complete": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
_decode = msgspec.json.Decoder().decode


def parse_json(body: bytes) -> Any:
    """Decode JSON as endpoints really write it: also with lone surrogates, NaN and control characters.

    Raises ValueError where it is no JSON at all.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise ValueError("nested too deep") from None
    try:
        value = json.loads(body.decode("utf-8", "replace"), strict=False)
        # what can't be written as UTF-8 JSON can't be stored either: replaced here, once, for every later reader
        return _decode(json.dumps(_mended(value)).encode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def standard_finish_reason(text: str) -> str:
    """The standard name of a known other spelling, lower case; anything unknown stays as it was sent."""
    folded = text.lower()
    if folded in ("stop", "length", "tool_calls", "content_filter", "function_call"):
        return folded
    return _STANDARD.get(folded, text)


def from_body(body: dict[str, Any]) -> Answer:
    """The answer in a plain (not streamed) completion. Raises EndpointError(malformed)."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EndpointError(Kind.MALFORMED, "the answer has no choices")
    choice = next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), choices[0])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise EndpointError(Kind.MALFORMED, "choice 0 of the answer has no message")
    answer = assemble(body, message, _text(choice.get("finish_reason")) or None)
    if answer.finish_reason is None and not (answer.completion or answer.tool_calls or answer.refusal):
        fault = "the answer has neither content nor a finish reason: it is not known to be whole"
        raise EndpointError(Kind.DISCONNECTED, fault, unconfirmed=True)
    return answer


def assemble(envelope: dict[str, Any], message: dict[str, Any], finish_reason: str | None) -> Answer:
    """The answer from a message and what stood around it. Usage that is missing is marked and estimated later."""
    tool_calls = message.get("tool_calls") or message.get("function_call")
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    completion = _content(message.get("content"))
    return Answer(
        completion=completion,
        usage=read_usage(envelope.get("usage")) or Usage(0, 0, 0, source="missing"),
        finish_reason=None if finish_reason is None else standard_finish_reason(finish_reason),
        refusal=_text(message.get("refusal")),
        reasoning=_content(reasoning),
        tool_calls=None if not tool_calls else msgspec.json.encode(tool_calls).decode(),
        model=_text(envelope.get("model")),
        response_id=_text(envelope.get("id")),
        system_fingerprint=_text(envelope.get("system_fingerprint")),
        created=_int(envelope.get("created")),
    )


def read_usage(usage: Any) -> Usage | None:
    """Token counts, also as strings; None where the endpoint sent none."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens"))
    total = _int(usage.get("total_tokens"))
    if prompt is None and completion is None:
        return None
    inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _int(inputs.get("cached_tokens")) if isinstance(inputs, dict) else None
    if cached is None:
        cached = _int(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    reasoning = _int(outputs.get("reasoning_tokens")) if isinstance(outputs, dict) else None
    prompt, completion = prompt or 0, completion or 0
    return Usage(prompt, completion, prompt + completion if total is None else total, cached, reasoning)


def _content(value: Any) -> str | None:
    """Text as text; a list of parts as the joined text of its text parts."""
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return _text(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _int(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**63 else None


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, list):
        return [_mended(inner) for inner in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    return value
