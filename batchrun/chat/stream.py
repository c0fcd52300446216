"""A streamed body → Answer, incrementally: bytes as they come, whatever the cuts (endpoint.md §2).

`Decoder.feed` takes bytes and says whether content arrived; `finish` gives the answer or an EndpointError. A body that
turns out to be plain JSON is taken as such: the body is believed, not the Content-Type. Whole means a finish reason;
`[DONE]` alone proves nothing.
"""

import re
from typing import Any

from batchrun.chat.answer import assemble, from_body, parse_json
from batchrun.chat.faults import error_in
from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer

BODY_CAP = 64 << 20
LINE_CAP = 8 << 20
_BREAK = re.compile(rb"\r\n|\n|\r")


class Decoder:
    """Folds one response body. `done` turns true at `[DONE]`: nothing after it is worth waiting for."""

    def __init__(self) -> None:
        self.done = False
        self._size = 0
        self._pending: list[bytes] = []
        self._plain: bool | None = None
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False
        self._envelope: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._junk = b""

    def feed(self, block: bytes) -> bool:
        """Take bytes; True where they brought content. Raises EndpointError for an error inside the stream."""
        self._size += len(block)
        if self._size > BODY_CAP:
            raise EndpointError(Kind.MALFORMED, f"the answer is larger than {BODY_CAP >> 20} MiB", unconfirmed=True)
        if self._plain is None:
            self._pending.append(block)
            start = b"".join(self._pending).removeprefix(b"\xef\xbb\xbf").lstrip()
            if not start or b"\xef\xbb\xbf".startswith(start):
                return False
            self._plain = start[:1] in (b"{", b"[", b"<", b'"')
            block = b"".join(self._pending).removeprefix(b"\xef\xbb\xbf")
            self._pending = [block] if self._plain else []
            return self._plain or self._lines(block)
        if self._plain:
            self._pending.append(block)
            return True
        return self._lines(block)

    def finish(self) -> Answer:
        """The whole answer, at the end of the body. Raises EndpointError where it is not whole."""
        if self._plain is None:
            raise EndpointError(Kind.DISCONNECTED, "the answer's body is empty", unconfirmed=True)
        if self._plain:
            return self._plain_answer()
        self._lines(b"\n\n")
        choice = self._choices.get(0)
        if choice is None:
            if self._junk:
                shown = self._junk[:200].decode("utf-8", "replace")
                raise EndpointError(Kind.MALFORMED, "the answer is neither JSON nor a stream", body=shown)
            raise EndpointError(Kind.DISCONNECTED, "the stream ended without an answer", unconfirmed=True)
        if any(not one.finish_reason for one in self._choices.values()):
            message = "the stream ended without a finish reason: the answer is not known to be whole"
            raise EndpointError(Kind.DISCONNECTED, message, unconfirmed=True)
        return assemble(self._envelope, choice.message(), choice.finish_reason)

    def raw_text(self) -> str | None:
        """The body as text where it was plain JSON; a stream's events are not kept."""
        return b"".join(self._pending).decode("utf-8", "replace") if self._plain else None

    def _plain_answer(self) -> Answer:
        body = b"".join(self._pending).strip()
        if body.endswith(b"data: [DONE]"):
            body = body.removesuffix(b"data: [DONE]")
        try:
            value = parse_json(body)
        except ValueError:
            shown = body[:200].decode("utf-8", "replace")
            raise EndpointError(Kind.MALFORMED, "the answer is not JSON", body=shown, unconfirmed=True) from None
        if not isinstance(value, dict):
            raise EndpointError(Kind.MALFORMED, "the answer is JSON but no object", body=str(value)[:200])
        fault = error_in(value)
        if fault is not None:
            raise fault
        return from_body(value)

    def _lines(self, block: bytes) -> bool:
        if self._after_cr and block:
            # a CR at the end of the last block was already taken as the line's end
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if not block:
            return False
        found = _BREAK.split(self._rest + block)
        self._after_cr = block.endswith(b"\r")
        self._rest = found.pop()
        if len(self._rest) > LINE_CAP or max(map(len, found), default=0) > LINE_CAP:
            raise EndpointError(Kind.MALFORMED, f"a line of the stream is over {LINE_CAP >> 20} MiB", unconfirmed=True)
        content = False
        for line in found:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if self._data:
                    data, self._data = b"\n".join(self._data), []
                    content = self._event(data) or content
            elif line[:1] != b":" and not line.startswith((b"event", b"id", b"retry", b"data")):
                self._junk = self._junk or line
        return content

    def _event(self, data: bytes) -> bool:
        text = data.strip()
        if text == b"[DONE]":
            self.done = True
            return False
        if not text or self.done:
            return False
        try:
            chunk = parse_json(text)
        except ValueError:
            self._junk = self._junk or text
            raise EndpointError(
                Kind.MALFORMED,
                "an event of the stream is not JSON",
                body=text[:200].decode("utf-8", "replace"),
                unconfirmed=True,
            ) from None
        if not isinstance(chunk, dict):
            return False
        fault = error_in(chunk)
        if fault is not None:
            raise fault
        envelope = self._envelope
        for key in ("id", "model", "created", "system_fingerprint", "usage"):
            value = chunk.get(key)
            if value is not None and value != "":
                envelope[key] = value
        content = False
        for choice in _listed(chunk.get("choices")):
            if isinstance(choice, dict):
                index = choice.get("index")
                index = index if isinstance(index, int) else 0
                folded = self._choices.get(index)
                if folded is None:
                    folded = self._choices[index] = _Choice()
                content = folded.take(choice) or content
        return content


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class _Choice:
    """One choice of a stream, as it grows."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._tools: dict[int, dict[str, Any]] = {}

    def take(self, choice: dict[str, Any]) -> bool:
        content = False
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice.get("message")
        if isinstance(delta, dict):
            for key in ("content", "refusal", "reasoning_content", "reasoning"):
                value = delta.get(key)
                if isinstance(value, str):
                    self._texts.setdefault(key, []).append(value)
                    content = content or bool(value)
            for call in _listed(delta.get("tool_calls")):
                if isinstance(call, dict):
                    self._tool(call)
                    content = True
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        return content

    def _tool(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        known = self._tools.setdefault(index if isinstance(index, int) else len(self._tools), {})
        for key, value in call.items():
            if key == "function" and isinstance(value, dict):
                function = known.setdefault("function", {})
                for name, part in value.items():
                    past = function.get(name)
                    grows = name == "arguments" and isinstance(part, str) and isinstance(past, str)
                    function[name] = past + part if grows else part or past
            elif key != "index" and value is not None:
                known[key] = value

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {key: "".join(parts) for key, parts in self._texts.items()}
        if self._tools:
            message["tool_calls"] = [self._tools[index] for index in sorted(self._tools)]
        return message
