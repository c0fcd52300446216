"""A response body → Answer, incrementally: bytes as they come, whatever the cuts (endpoint.md §2).

`Decoder.feed` takes bytes and says whether content arrived; `finish` gives the answer or an EndpointError. A body that
turns out to be plain JSON is taken as such: the body is believed, not the Content-Type. Whole means a finish reason;
`[DONE]` alone proves nothing. Lines and fields are those of server-sent events (WHATWG HTML, "Parsing an event stream").
"""

from collections.abc import Callable, Sized
from typing import Any, Protocol

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Usage
from batchrun.wire.decode.answer import from_body, parse_json
from batchrun.wire.decode.chunks import Fold
from batchrun.wire.decode.plain import SHOWN, has_content, malformed, plain_value, sound_object
from batchrun.wire.decode.usage import stated_usage
from batchrun.wire.faults.classify import ErrorBody, classify, error_in, read_error

BODY_CAP = 64 << 20
LINE_CAP = 8 << 20
_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})


class Folding(Protocol):
    """What the events of a stream are folded into; `choices` is empty until one brought something of an answer."""

    @property
    def choices(self) -> Sized: ...

    @property
    def has_content(self) -> bool:
        """Whether any content came."""

    @property
    def model(self) -> str | None:
        """Who says that it answers, as far as that was stated."""

    def usage(self) -> Usage | None:
        """What was stated as used so far."""

    def has_ended(self, choices: int) -> bool:
        """Whether so many choices are there and each of them has ended."""

    def take(self, data: bytes) -> bool:
        """Fold one event's data; True where it brought content. Raises as `Fold.take` does."""

    def answer(self) -> Answer:
        """The whole answer. Raises EndpointError where it is not whole."""


class Decoder:
    """Folds one response body. `done` turns true at `[DONE]`: nothing after it is worth waiting for.

    `read` makes the answer of a plain body, `fold` that of a stream; without them both are chat completions'.
    """

    def __init__(self, read: Callable[[dict[str, Any]], Answer] = from_body, fold: Folding | None = None) -> None:
        self.done = False
        self._read = read
        self._fold = Fold() if fold is None else fold
        self._size = 0
        self._plain: bool | None = None
        self._head = b""
        self._pending = bytearray()
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._after_cr = False
        self._other = bytearray()
        self._value: Any = None

    def feed(self, block: bytes) -> bool:
        """Take bytes; True where they brought content. Raises EndpointError for an error inside the stream."""
        self._size += len(block)
        if self._size > BODY_CAP:
            raise EndpointError(Kind.MALFORMED, f"the answer is larger than {BODY_CAP >> 20} MiB", unconfirmed=True)
        if self.done:
            return False
        try:
            if self._plain is False:
                return self._lines(block)
            if self._plain is None:
                return self._begin(block)
        except RecursionError:
            raise malformed("an event of the stream is nested too deep", block) from None
        self._pending += block
        return not block.isspace()

    def has_ended(self, choices: int) -> bool:
        """Whether a stream has brought so many choices to their end, though it may go on: with usage, or `[DONE]`."""
        return self._plain is False and self._fold.has_ended(choices)

    @property
    def may_be_whole(self) -> bool:
        """Whether a plain body ends, so far, as a whole one does: only a look at all of it can say more."""
        return bool(self._plain) and self._pending[-16:].rstrip().endswith(b"}")

    def is_whole(self, choices: int) -> bool:
        """Whether what has come is a whole answer of so many choices, wherever its body was broken off."""
        if not self._plain:
            return self.has_ended(choices)
        try:
            return isinstance(parse_json(self._pending), dict)
        except ValueError:
            return False

    def finish(self) -> Answer:
        """The whole answer, at the end of the body. Raises EndpointError where it is not whole."""
        try:
            return self._finish()
        except RecursionError:
            raise malformed("the answer is nested too deep", self._pending or self._other) from None
        except EndpointError as error:
            if error.kind is Kind.MALFORMED and error.body is None:
                error.body = (self._pending or self._other)[:SHOWN].decode("utf-8", "replace")
            raise

    def settle(self, error: EndpointError) -> EndpointError:
        """Give a fault under HTTP 200 what it may have cost: the usage that was stated, or that it may have been billed,
        where something of an answer had come.
        """
        usage = self._fold.usage() or stated_usage(self._value)
        if usage is not None and usage.total:
            error.usage = usage
            error.model = self._fold.model or (self._value.get("model") if isinstance(self._value, dict) else None)
            # what was broken off may have used more than was stated last
            error.unconfirmed = error.unconfirmed and error.kind in (Kind.TIMEOUT, Kind.DISCONNECTED)
        elif self._fold.has_content or has_content(self._value):
            error.unconfirmed = True
        return error

    def raw_text(self) -> str | None:
        """The body as text where it was plain JSON; a stream's events are not kept."""
        return self._pending.decode("utf-8", "replace") if self._plain else None

    def _begin(self, block: bytes) -> bool:
        """The first bytes: past a byte order mark and blank lines they say which kind of body it is."""
        block = self._head + block
        if self._size == len(block):
            if len(block) < len(_BOM) and _BOM.startswith(block):
                self._head = block
                return False
            block = block.removeprefix(_BOM)
        self._head = b""
        block = block.lstrip()
        if not block:
            return False
        self._plain = block[:1] in (b"{", b"[", b"<", b'"')
        if not self._plain:
            return self._lines(block)
        self._pending += block
        return True

    def _finish(self) -> Answer:
        if self._plain is None:
            raise EndpointError(Kind.DISCONNECTED, "the answer's body is empty", unconfirmed=True)
        if self._plain:
            self._value = value = plain_value(bytes(self._pending))
            return self._read(sound_object(value, self._pending))
        self._end()
        if self._other:
            answer = self._outside_of_events()
            if answer is not None:
                return answer
        if not self._fold.choices:
            raise EndpointError(Kind.DISCONNECTED, "the stream ended without an answer", unconfirmed=True)
        return self._fold.answer()

    def _end(self) -> None:
        """Take what stands behind the last blank line; an event that was cut short there is dropped."""
        if self.done:
            return
        if self._rest:
            self._line(bytes(self._rest))
            self._rest.clear()
        try:
            self._dispatch()
        except EndpointError as error:
            if error.kind is not Kind.MALFORMED:
                raise

    def _lines(self, block: bytes) -> bool:
        if self._after_cr and block:
            # a CR at the end of the last block was already taken as the line's end
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in block:
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = block.split(b"\n")
        last = lines.pop()
        if lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        if last:
            self._rest += last
        if len(self._rest) > LINE_CAP or (lines and len(max(lines, key=len)) > LINE_CAP):
            raise EndpointError(Kind.MALFORMED, f"a line of the stream is over {LINE_CAP >> 20} MiB", unconfirmed=True)
        content = False
        for line in lines:
            if not line:
                if self._data and self._dispatch():
                    content = True
            elif not line.startswith(b"data:"):
                self._line(line)
            else:
                if self._data and _ends_between(self._data[-1], line) and self._dispatch():
                    content = True
                self._data.append(line)
            if self.done:
                break
        return content

    def _line(self, line: bytes) -> None:
        """Any line that is not blank."""
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(line)
        elif field == b"event":
            self._name = value.strip()
        elif field and field not in _FIELDS:
            self._other += line + b"\n"

    def _dispatch(self) -> bool:
        """A blank line ends an event."""
        lines, self._data = self._data, []
        name, self._name = self._name, b""
        if not lines:
            return False
        data = lines[0][5:] if len(lines) == 1 else b"\n".join(map(_value, lines))
        try:
            if name == b"error":
                raise _named_error(data)
            return self._fold.take(data)
        except ValueError:
            pass
        text = data.strip()
        if text == b"[DONE]":
            self.done = True
            return False
        if not text:
            return False
        raise malformed("an event of the stream is not JSON", text)

    def _outside_of_events(self) -> Answer | None:
        """Lines that are no events: a plain answer behind comments, or an error that a relay wrote into a stream."""
        try:
            value = parse_json(self._other)
        except ValueError:
            value = None
        self._value = value
        fault = error_in(value)
        if fault is not None:
            raise fault
        if self._fold.choices:
            return None
        if isinstance(value, dict):
            return self._read(value)
        what = "the answer is neither JSON nor a stream" if value is None else "the answer is JSON but no object"
        raise malformed(what, self._other)


def _named_error(data: bytes) -> EndpointError:
    """The fault of an event that is named `error`, whatever its data looks like."""
    try:
        value: Any = parse_json(data)
    except ValueError:
        value = None
    error = read_error(value) or ErrorBody(data.decode("utf-8", "replace").strip(), "", "", "")
    return classify(200, error)


def _ends_between(line: bytes, following: bytes) -> bool:
    """Whether an event ends between two data lines though no blank line says so: JSON has no `}` before a `{` there."""
    return line.rstrip().endswith(b"}") and following[5:].lstrip()[:1] in (b"{", b"[")


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
