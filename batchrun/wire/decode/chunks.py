"""The events of a stream, folded into the message they add up to (endpoint.md §2).

Nearly every event is one small piece of text: those are decoded typed, into what is needed and nothing more. The rest
(the first ones, errors, usage alone, and whatever doesn't fit the typed form) is read as plain JSON, leniently. Both
ways end in the same fold. Source of the shapes: OpenAI's chat completion chunk object.
"""

from typing import Any

import msgspec

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Usage
from batchrun.wire.decode.answer import (
    assemble,
    content_text,
    decode_json,
    fixed,
    has_media,
    parse_odd_json,
    refuse_broken,
)
from batchrun.wire.decode.reasoning import thoughts_of
from batchrun.wire.decode.usage import stated_usage
from batchrun.wire.faults.classify import error_in

_ENVELOPE = ("id", "model", "created", "system_fingerprint", "service_tier", "usage", "usageMetadata", "x_groq")
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None
    images: list[Any] | None = None


class _Piece(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Piece] = []
    usage: Any = None
    error: Any = None


_typed = msgspec.json.Decoder(_Chunk).decode


class Fold:
    """The answer of one stream, as it grows. `choices` is by index."""

    def __init__(self) -> None:
        self.choices: dict[int, _Choice] = {}
        self._envelope: dict[str, Any] = {}
        self._began = False
        self._odd = False

    def take(self, data: bytes) -> bool:
        """Fold one event's data; True where it brought content.

        Raises EndpointError for an error inside the stream, ValueError for what is no JSON.
        """
        if not self._began:
            return self._take_any(data)
        try:
            chunk = _typed(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._take_any(data)
        if not chunk.choices or chunk.error:
            return self._take_any(data)
        if chunk.usage:
            self._envelope["usage"] = chunk.usage
        content = False
        for piece in chunk.choices:
            if piece.error:
                return self._take_any(data)
            choice = self.choices.get(piece.index) or self._choice(piece.index)
            delta = piece.delta or piece.message
            if delta is not None and choice.take(delta):
                content = True
            if piece.finish_reason:
                choice.finish_reason = piece.finish_reason
        return content

    @property
    def has_content(self) -> bool:
        """Whether any content came."""
        return self._began

    @property
    def model(self) -> str | None:
        """Who says that it answers."""
        model = self._envelope.get("model")
        return model if isinstance(model, str) else None

    def usage(self) -> Usage | None:
        """What was stated as used so far."""
        return stated_usage(self._envelope)

    def has_ended(self, choices: int) -> bool:
        """Whether so many choices are there and each of them has its finish reason."""
        found = self.choices
        return len(found) >= choices and all(choice.finish_reason for choice in found.values())

    def answer(self) -> Answer:
        """The whole answer. Raises EndpointError(disconnected) where a choice has not ended, or was broken off."""
        if any(not choice.finish_reason for choice in self.choices.values()):
            fault = "the stream ended without a finish reason: the answer is not known to be whole"
            raise EndpointError(Kind.DISCONNECTED, fault, unconfirmed=True)
        choice = self.choices[0 if 0 in self.choices else min(self.choices)]
        message = choice.message()
        for one in self.choices.values():
            refuse_broken(one.finish_reason, has_text=one is choice and bool(message.get("content")))
        return assemble(self._envelope, fixed(message) if self._odd else message, choice.finish_reason)

    def _choice(self, index: int) -> "_Choice":
        choice = self.choices[index] = _Choice()
        return choice

    def _take_any(self, data: bytes) -> bool:
        """Fold an event of any form: lenient, and several times as dear as the typed way."""
        try:
            chunk = odd = decode_json(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # a character can be cut in two between its surrogates: texts are joined first, and fixed then
            odd = parse_odd_json(data)
            chunk = fixed(odd)
            self._odd = True
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(chunk, dict):
            return False
        for key in _ENVELOPE:
            value = chunk.get(key)
            if value:
                self._envelope[key] = value
        fault = error_in(chunk)
        content = False
        for given in listed(odd.get("choices")):
            if isinstance(given, dict):
                content = self._take_choice(given) or content
        self._began = self._began or content
        if fault is not None:
            raise fault
        return content

    def _take_choice(self, given: dict[str, Any]) -> bool:
        index = given.get("index")
        index = index if isinstance(index, int) else 0
        choice = self.choices.get(index) or self._choice(index)
        reason = given.get("finish_reason")
        if isinstance(reason, str) and reason:
            choice.finish_reason = reason
        delta = given.get("delta")
        if not isinstance(delta, dict):
            delta = given.get("message")
        return isinstance(delta, dict) and choice.take(_read_delta(delta))


class _Choice:
    """One choice of a stream, as it grows."""

    __slots__ = ("_content", "_details", "_function", "_media", "_others", "_places", "_tools", "finish_reason")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._content: list[str] = []
        self._others: dict[str, list[str]] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self._places: dict[int, int] = {}
        self._function: dict[str, Any] = {}
        self._details: list[dict[str, Any]] = []
        self._media = False

    def take(self, delta: _Delta) -> bool:
        """Add one delta; True where it brought content."""
        text = delta.content
        if text:
            self._content.append(text)
            return self._take_others(delta) or True
        if text is not None:
            self._content.append(text)
        return self._take_others(delta)

    def _take_others(self, delta: _Delta) -> bool:
        content = False
        if delta.reasoning_content is not None:
            content = self._other("reasoning_content", delta.reasoning_content)
        if delta.reasoning is not None:
            content = self._other("reasoning", delta.reasoning) or content
        if delta.refusal is not None:
            content = self._other("refusal", delta.refusal) or content
        for call in delta.tool_calls or ():
            self._tool(call)
            content = True
        if delta.function_call:
            _grow(self._function, delta.function_call)
            content = True
        if delta.reasoning_details:
            self._details += delta.reasoning_details
            content = True
        if delta.audio or delta.images:
            content = self._media = True
        return content

    def _other(self, key: str, text: str) -> bool:
        self._others.setdefault(key, []).append(text)
        return text != ""

    def _tool(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        index = index if isinstance(index, int) else len(self._tools)
        place = self._places.get(index, index)
        if _is_another(call, self._tools.get(place)):
            place = self._places[index] = max(self._tools) + 1
        known = self._tools.setdefault(place, {})
        for key, value in call.items():
            if key == "function" and isinstance(value, dict):
                if not isinstance(known.get(key), dict):
                    known[key] = {}
                _grow(known[key], value)
            elif key != "index" and value is not None:
                known[key] = value

    def message(self) -> dict[str, Any]:
        """The message that the deltas add up to, in the form of a plain answer's."""
        message: dict[str, Any] = {key: "".join(parts) for key, parts in self._others.items()}
        if self._content:
            message["content"] = "".join(self._content)
        if self._tools:
            message["tool_calls"] = [_whole(self._tools[index]) for index in sorted(self._tools)]
        if self._function:
            message["function_call"] = _joined(self._function)
        if self._details:
            message["reasoning_details"] = self._details
        if self._media:
            message["images"] = [True]
        return message


def _is_another(call: dict[str, Any], known: dict[str, Any] | None) -> bool:
    """Whether a call begins where one stands already: some endpoints number all that run in parallel with 0. What goes on
    with a call has no name; an id alone proves nothing, for some make a new one for every piece.
    """
    function = call.get("function")
    begins = isinstance(function, dict) and bool(function.get("name")) and bool(call.get("id"))
    return begins and known is not None and known.get("id") not in (None, "", call["id"])


def listed(value: Any) -> list[Any]:
    """The value where it is a list, else nothing."""
    return value if isinstance(value, list) else []


def _read_delta(given: dict[str, Any]) -> _Delta:
    """A delta of any shape as the typed one; what has the wrong type is left out."""
    texts: dict[str, Any] = {key: content_text(given[key]) for key in _TEXTS if isinstance(given.get(key), str | list)}
    content, function = given.get("content"), given.get("function_call")
    if isinstance(content, list) and (thoughts := thoughts_of(content)):
        texts["reasoning_content"] = thoughts
    return _Delta(
        **texts,
        tool_calls=[call for call in listed(given.get("tool_calls")) if isinstance(call, dict)],
        function_call=function if isinstance(function, dict) else None,
        reasoning_details=[one for one in listed(given.get("reasoning_details")) if isinstance(one, dict)],
        images=[True] if has_media(given) else None,
    )


class _Parts(list[str]):
    """A text that grows piece by piece, joined at the end."""


def _grow(known: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece of a function call: its arguments grow, of the rest the last that says something is kept."""
    for name, part in piece.items():
        if name == "arguments" and isinstance(part, str):
            if not isinstance(known.get(name), _Parts):
                known[name] = _Parts()
            known[name].append(part)
        elif part or name not in known:
            known[name] = part


def _whole(call: dict[str, Any]) -> dict[str, Any]:
    return {key: _joined(value) if key == "function" else value for key, value in call.items()}


def _joined(function: Any) -> Any:
    if not isinstance(function, dict):
        return function
    return {key: "".join(value) if isinstance(value, _Parts) else value for key, value in function.items()}
