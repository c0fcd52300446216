"""From a request's body to a checked, frozen `ChatRequest`, or to the error that OpenAI would send.

Pure. It must never be lenient: a client that sends nonsense should learn it here, before it pays for it elsewhere.
"""

from typing import Any

import msgspec

from batchrun.embedded.tokens import Tokenizer, count_tokens
from batchrun.embedded.wire import ApiError

_decode = msgspec.json.Decoder().decode
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_PARTS = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
_MESSAGE_OVERHEAD = 4  # tokens that a role and its separators cost
_PART_TOKENS = 85  # what a part that is not text is taken to cost

_RANGES: tuple[tuple[str, float, float, bool], ...] = (
    ("temperature", 0, 2, False),
    ("top_p", 0, 1, False),
    ("frequency_penalty", -2, 2, False),
    ("presence_penalty", -2, 2, False),
    ("max_tokens", 1, 2**31, True),
    ("max_completion_tokens", 1, 2**31, True),
    ("n", 1, 128, True),
    ("seed", -(2**63), 2**64, True),
)


class ChatRequest(msgspec.Struct, frozen=True, gc=False):
    """What an answer depends on. `system`, `user` (the last) and `earlier` (the other users) are texts."""

    model: str
    system: str
    earlier: str
    user: str
    prompt_tokens: int
    max_tokens: int | None
    n: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    response_format: dict[str, Any] | None
    flavour: str
    tokenizer: Tokenizer


def parse_request(raw: bytes, models: tuple[str, ...], context_length: int, tokenizer: Tokenizer) -> ChatRequest:
    """Read the request in `raw`; raises ApiError (400, or 404 for an unknown model)."""
    try:
        body = _decode(raw)
    except msgspec.MsgspecError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from error
    except RecursionError as error:
        raise ApiError(400, "We could not parse the JSON body of your request: nested too deeply") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    model = body.get("model")
    if model is None or model == "":
        raise _missing("model")
    if not isinstance(model, str):
        raise _mistyped("model", "a string", model)
    if models and model not in models:
        raise ApiError(
            404,
            f"The model `{model}` does not exist or you do not have access to it.",
            param="model",
            code="model_not_found",
        )
    system, earlier, user, prompt_tokens = _read_messages(body, tokenizer)
    for name, low, high, whole in _RANGES:
        if (value := body.get(name)) is not None:
            _check_range(name, value, low, high, whole=whole)
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _mistyped("stream", "a boolean", stream)
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
    if prompt_tokens + (max_tokens or 0) > context_length:
        raise ApiError(
            400,
            f"This model's maximum context length is {context_length} tokens. However, you requested "
            f"{prompt_tokens + (max_tokens or 0)} tokens ({prompt_tokens} in the messages, {max_tokens or 0} in the "
            "completion). Please reduce the length of the messages or completion.",
            param="messages",
            code="context_length_exceeded",
        )
    return ChatRequest(
        model=model,
        system=system,
        earlier=earlier,
        user=user,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        n=body.get("n") or 1,
        stop=_stop(body.get("stop")),
        stream=bool(stream),
        include_usage=_include_usage(body.get("stream_options"), stream=bool(stream)),
        response_format=_response_format(body.get("response_format")),
        flavour=f"{body.get('temperature')}|{body.get('top_p')}|{body.get('seed')}",
        tokenizer=tokenizer,
    )


def _read_messages(body: dict[str, Any], tokenizer: Tokenizer) -> tuple[str, str, str, int]:
    messages = body.get("messages")
    if messages is None:
        raise _missing("messages")
    if not isinstance(messages, list):
        raise _mistyped("messages", "an array of objects", messages)
    if not messages:
        raise ApiError(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array.",
            param="messages",
            code="empty_array",
        )
    system, earlier, user, tokens = "", "", "", 3
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise _mistyped(where, "an object", message)
        role = message.get("role")
        if role is None:
            raise _missing(f"{where}.role")
        if not isinstance(role, str) or role not in _ROLES:
            raise ApiError(
                400,
                f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(_ROLES))}.",
                param=f"{where}.role",
                code="invalid_value",
            )
        text, extra = _read_content(message, role, where)
        tokens += count_tokens(text, tokenizer) + extra + _MESSAGE_OVERHEAD
        if role in ("system", "developer"):
            system = f"{system}\n{text}" if system else text
        elif role == "user":
            earlier, user = f"{earlier}\n{user}" if user else earlier, text
    return system, earlier, user, tokens


def _read_content(message: dict[str, Any], role: str, where: str) -> tuple[str, int]:
    """Give the text of a message, and the tokens of its parts that are no text."""
    content = message.get("content")
    if isinstance(content, str):
        return content, 0
    if content is None:
        if role == "assistant" and (message.get("tool_calls") or message.get("function_call") or "content" in message):
            return "", 0
        raise ApiError(
            400,
            f"Invalid value for 'content': expected a string, got null. ({where}.content)",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    if not isinstance(content, list):
        raise _mistyped(f"{where}.content", "one of a string or array of objects", content)
    texts: list[str] = []
    extra = 0
    for index, part in enumerate(content):
        at = f"{where}.content[{index}]"
        if not isinstance(part, dict):
            raise _mistyped(at, "an object", part)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in _PARTS:
            raise ApiError(
                400,
                f"Invalid value: {kind!r}. Supported values are: {', '.join(sorted(_PARTS))}.",
                param=f"{at}.type",
                code="invalid_value",
            )
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise _mistyped(f"{at}.text", "a string", part.get("text"))
            texts.append(part["text"])
        elif part.get(kind) is None:
            raise _missing(f"{at}.{kind}")
        else:
            extra += _PART_TOKENS
    return "\n".join(texts), extra


def _check_range(name: str, value: Any, low: float, high: float, *, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise _mistyped(name, "an integer" if whole else "a number", value)
    number = "integer" if whole else "decimal"
    if value < low:
        raise ApiError(
            400,
            f"Invalid '{name}': {number} below minimum value. Expected a value >= {low}, but got {value} instead.",
            param=name,
            code=f"{number}_below_min_value",
        )
    if value > high:
        raise ApiError(
            400,
            f"Invalid '{name}': {number} above maximum value. Expected a value <= {high}, but got {value} instead.",
            param=name,
            code=f"{number}_above_max_value",
        )


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
        raise _mistyped("stop", "a string or an array of strings", value)
    return tuple(item for item in found if item)


def _include_usage(options: Any, *, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _mistyped("stream_options", "an object", options)
    if not stream:
        raise ApiError(
            400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    return bool(options.get("include_usage"))


def _response_format(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _mistyped("response_format", "an object", value)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise ApiError(
            400,
            f"Invalid value: {kind!r}. Supported values are: 'json_object', 'json_schema', and 'text'.",
            param="response_format.type",
            code="invalid_value",
        )
    if kind == "json_schema":
        schema = value.get("json_schema")
        if not isinstance(schema, dict):
            raise _missing("response_format.json_schema")
        if not isinstance(schema.get("schema", {}), dict):
            raise _mistyped("response_format.json_schema.schema", "an object", schema["schema"])
    return value if kind != "text" else None


def _missing(name: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def _mistyped(name: str, wanted: str, value: Any) -> ApiError:
    kinds = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array"}
    got = "null" if value is None else kinds.get(type(value), "an object")
    return ApiError(
        400, f"Invalid type for '{name}': expected {wanted}, but got {got} instead.", param=name, code="invalid_type"
    )
