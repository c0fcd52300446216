"""A JSON body or the sum of a stream's chunks → Answer. Lenient in what it reads, strict in what it calls whole.

Source of the shapes: the API page and endpoint.md §1–§2. Text that leaves here can be written as UTF-8, also where the
endpoint's could not. Knows nothing of connections, retries or prices.
"""

import json
import math
from typing import Any

import msgspec

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer
from batchrun.wire.decode.reasoning import reasoning_of, text_of
from batchrun.wire.decode.usage import usage_in

STANDARD_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_OTHER_NAMES = {
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end": "stop",
    "complete": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
# Reasons that say an answer was broken off, not ended: DeepSeek's chat completion reference (insufficient_system_resource),
# Zhipu's (network_error), OpenRouter's (error), vllm/v1/request.py and sglang's finish reasons (abort).
_BROKEN_OFF = frozenset(
    {"error", "abort", "aborted", "cancelled", "canceled", "network_error", "insufficient_system_resource", "timeout"}
)
# Reasons that leave no answer, or half of one: Google's FinishReason (OTHER, MALFORMED_FUNCTION_CALL and the like), which
# compatible endpoints hand on as they are. Without any text the answer is empty, and is judged as that.
_CUT_SHORT = frozenset({"other", "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls", "no_image"})
_MEDIA = frozenset({"image_url", "image", "audio", "input_audio", "inline_data", "b64_json"})
decode_json = msgspec.json.Decoder().decode


def parse_json(body: bytes | bytearray) -> Any:
    """Decode JSON as endpoints really write it: also with lone surrogates, NaN and control characters.

    Raises ValueError where it is no JSON at all, or nested deeper than the parser goes.
    """
    try:
        return decode_json(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return fixed(parse_odd_json(body))
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse_odd_json(body: bytes | bytearray) -> Any:
    """What `parse_json` reads where JSON is not as it should be, before it is fixed: it may hold lone surrogates."""
    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        raise ValueError("nested too deep") from None


def fixed(value: Any) -> Any:
    """The value as UTF-8 JSON can hold it: what can't be written can't be stored, so it is replaced here, once.

    Surrogates that make a pair become their character, lone ones U+FFFD; NaN and infinities become null.
    """
    try:
        return decode_json(json.dumps(_cleaned(value)))
    except RecursionError:
        raise ValueError("nested too deep") from None


def standard_finish_reason(text: str) -> str:
    """The standard name of a known other spelling, lower case; anything unknown stays as it was sent."""
    folded = text.lower()
    return folded if folded in STANDARD_REASONS else _OTHER_NAMES.get(folded, text)


def from_body(body: dict[str, Any]) -> Answer:
    """The answer in a plain (not streamed) completion. Raises EndpointError(malformed)."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EndpointError(Kind.MALFORMED, "the answer has no choices", unconfirmed=True)
    choice = next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), choices[0])
    message = choice.get("message")
    if not isinstance(message, dict):
        message = choice.get("delta")
    if not isinstance(message, dict):
        raise EndpointError(Kind.MALFORMED, "choice 0 of the answer has no message", unconfirmed=True)
    answer = assemble(body, message, _text(choice.get("finish_reason")) or None)
    if answer.finish_reason is None and not (answer.completion or answer.tool_calls or answer.refusal):
        fault = "the answer has neither content nor a finish reason: it is not known to be whole"
        raise EndpointError(Kind.DISCONNECTED, fault, unconfirmed=True)
    for one in choices:
        if isinstance(one, dict):
            refuse_broken(one.get("finish_reason"), has_text=one is choice and bool(answer.completion))
    return answer


def refuse_broken(reason: Any, *, has_text: bool = False) -> None:
    """Raise EndpointError(disconnected) where a finish reason says that its choice was broken off; `has_text` says that
    there is something of an answer, which is not whole then. A reason that nobody knows is taken as an end.
    """
    if not isinstance(reason, str) or reason in STANDARD_REASONS:
        return
    folded = reason.lower()
    if folded in _BROKEN_OFF or (has_text and folded in _CUT_SHORT):
        message = f"the endpoint broke its answer off (finish_reason {reason})"
        raise EndpointError(Kind.DISCONNECTED, message, unconfirmed=True)


def assemble(envelope: dict[str, Any], message: dict[str, Any], finish_reason: str | None) -> Answer:
    """The answer from a message and what stood around it; the finish reason is kept as it was sent.

    Usage that is missing is marked, and estimated later.
    """
    tool_calls = message.get("tool_calls") or message.get("function_call")
    content = message.get("content")
    return Answer(
        completion=content_text(content),
        usage=usage_in(envelope),
        finish_reason=finish_reason,
        refusal=_text(message.get("refusal")),
        reasoning=reasoning_of(message),
        tool_calls=None if not tool_calls else msgspec.json.encode(tool_calls).decode(),
        model=_text(envelope.get("model")),
        response_id=_text(envelope.get("id")),
        system_fingerprint=_text(envelope.get("system_fingerprint")),
        created=_int(envelope.get("created")),
        has_media=has_media(message),
    )


def has_media(message: dict[str, Any]) -> bool:
    """Whether there is sound or an image in a message: OpenAI's `audio`, OpenRouter's `images`, parts of content."""
    parts = message.get("content")
    media = isinstance(parts, list) and any(isinstance(part, dict) and _MEDIA & part.keys() for part in parts)
    return bool(media or message.get("audio") or message.get("images"))


def content_text(value: Any) -> str | None:
    """Text as text; a list of parts as the joined text of its text parts."""
    return text_of(value) if isinstance(value, list) else _text(value)


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


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _well_formed(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    if isinstance(value, dict):
        return {_well_formed(key): _cleaned(inner) for key, inner in value.items()}
    return value


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
