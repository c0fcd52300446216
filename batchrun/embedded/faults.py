"""Faults by script: which requests are ill treated, and how. Read from JSON, a JSON file or a short inline text.

Inline: `ACTION key=value …`, several separated by `;`. ACTION is a status (`503`) or one of the names in `ACTIONS`:

    reset every=7; 429 first=3 retry-after=2; cut match="order 12" times=1; stall seconds=30 probability=0.01

This module decides; it must never touch a connection (that is play.py's).
"""

import random
import shlex
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

Action = Literal[
    "status", "reset", "cut", "stall", "slow", "garbage", "error_in_stream", "html", "as_json", "as_stream"
]
ACTIONS: tuple[str, ...] = get_args(Action)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests (all conditions that are given must hold; none given: every request), and what happens to them.

    `every`        each Nth request received
    `first`        only the first N requests received
    `after`        only requests behind the first N
    `match`        the body contains this text
    `times`        at most K times for one same body, so that a retry succeeds
    `probability`  by a seeded generator

    `action` is what happens; a `status` given alone means the action "status".

    status           an error with `status`, `body` (a JSON value, or text as it is), `headers`
    reset            the connection is reset before any answer
    cut              a stream ends without finish reason and [DONE]; a JSON body ends short of its Content-Length
    stall            nothing for `seconds`, at `part` ("before" or after the "headers", in the "middle"); then on
    slow             the answer drips over `seconds`
    garbage          200 with a body that is no JSON
    error_in_stream  an error object (`body`) inside a 200: in the middle of a stream, or as the JSON answer
    html             an HTML error page, 502 if `status` is not given
    as_json          a plain JSON answer, whatever `stream` says
    as_stream        a stream, whatever `stream` says
    """

    action: Action = "status"
    every: int = 0
    first: int = 0
    after: int = 0
    match: str = ""
    times: int = 0
    probability: float = 1.0
    status: int = 0
    body: Any = None
    headers: dict[str, str] = {}
    seconds: float = 1.0
    part: Literal["before", "headers", "middle"] = "before"

    def __post_init__(self) -> None:
        if self.action == "status" and not 200 <= self.status <= 599:
            raise ValueError("a fault needs an `action`, or a `status` from 200 to 599")
        if self.status and not 200 <= self.status <= 599:
            raise ValueError("`status` must be from 200 to 599")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError("`probability` must be from 0 to 1")
        if min(self.every, self.first, self.after, self.times, self.seconds) < 0:
            raise ValueError("`every`, `first`, `after`, `times` and `seconds` must not be negative")


def parse_faults(source: str) -> tuple[Fault, ...]:
    """Read faults from JSON text, the path of a JSON file, or inline text. ValueError says what is wrong."""
    text = source.strip()
    if not text:
        return ()
    if text.endswith(".json") and text[0] not in "[{":
        try:
            text = Path(text).read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            raise ValueError(f"cannot read the fault script {source}: {error.strerror}") from error
    if text[:1] not in ("[", "{"):
        return tuple(_inline(words) for words in _sentences(text))
    try:
        wanted: Any = tuple[Fault, ...] if text[0] == "[" else Fault
        found = msgspec.json.decode(text, type=wanted)
    except msgspec.MsgspecError as error:
        raise ValueError(f"fault script: {error}") from error
    return found if isinstance(found, tuple) else (found,)


def _sentences(text: str) -> list[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    lexer.commenters = ""
    sentences: list[list[str]] = [[]]
    try:
        for word in lexer:
            if set(word) == {";"}:
                sentences.append([])
            else:
                sentences[-1].append(word)
    except ValueError as error:
        raise ValueError(f"fault {text!r}: {error}") from error
    return [words for words in sentences if words]


def _inline(words: list[str]) -> Fault:
    said = " ".join(words)
    settings: dict[str, Any] = {"status": int(words[0])} if words[0].isdecimal() else {"action": words[0]}
    headers: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"fault {said!r}: expected key=value, got {word!r}")
        if "-" in key:  # no setting has a hyphen; nearly every header that matters here has
            headers[key] = value
        else:
            settings[key] = value
    if headers:
        settings["headers"] = headers
    try:
        return msgspec.convert(settings, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"fault {said!r}: {error} (actions: a status, {', '.join(ACTIONS[1:])})") from error


class Script:
    """Chooses the fault of each request. Holds one counter for each body that a fault with `times` has hit."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self._faults = [(index, fault, fault.match.encode()) for index, fault in enumerate(faults)]
        self._random = random.Random(seed)  # noqa: S311 - a script is repeatable, not secret
        self._hits: dict[tuple[int, int], int] = {}

    def choose(self, number: int, body: bytes, digest: int) -> Fault | None:
        """Choose the fault for request `number` (from 1), whose body hashes to `digest`."""
        for index, fault, match in self._faults:
            if fault.every and number % fault.every:
                continue
            if (fault.first and number > fault.first) or number <= fault.after:
                continue
            if match and match not in body:
                continue
            if fault.times and self._hits.get((index, digest), 0) >= fault.times:
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            if fault.times:
                self._hits[index, digest] = self._hits.get((index, digest), 0) + 1
            return fault
        return None
