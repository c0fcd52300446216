"""What goes out: the headers and the body of one attempt. The request itself, and its identity, are never changed here."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.records import Request

_STREAMED = b',"stream":true,"stream_options":{"include_usage":true}}'


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_REFERENCE = re.compile(rf"([A-Za-z]+ )?{_VARIABLE.pattern}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_KEYS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})


class Headers(msgspec.Struct, frozen=True):
    """A job's extra headers as they are sent. `secrets` are the values that came from the environment; `has_key` says that
    they bring a key of their own, beside which no other is sent unless it is asked for.
    """

    sent: dict[str, str]
    secrets: frozenset[str]
    has_key: bool


def read_headers(headers: Mapping[str, str], environ: Mapping[str, str]) -> Headers:
    """`${NAME}` in a value is that variable's. Raises JobError where it is not set, or a header can't be sent."""
    sent: dict[str, str] = {}
    secrets: set[str] = set()
    for name, value in headers.items():
        where = f'[endpoint] headers = {{ "{name}" = … }}'
        for variable in _VARIABLE.findall(value):
            found = environ.get(variable, "").strip()
            if not found:
                raise JobError(
                    f"{where}: the variable {variable} is not set; export {variable}=… and run the same command"
                )
            secrets.add(found)
        filled = _VARIABLE.sub(lambda match: environ[match[1]].strip(), value)
        if not _NAME.fullmatch(name) or not filled.isprintable() or not filled.isascii():
            raise JobError(f"{where}: it has characters that no HTTP header can carry")
        sent[name] = filled
    return Headers(sent, frozenset(secrets), bool(secrets) or any(name.lower() in _OWN_KEYS for name in headers))


def is_reference(value: str) -> bool:
    """Whether a header's value is nothing but the name of a variable, with a scheme before it or without: no secret."""
    return _REFERENCE.fullmatch(value) is not None


def variables_in(value: str) -> list[str]:
    """The names of the variables that a value takes from the environment."""
    found: list[str] = _VARIABLE.findall(value)
    return found


class _Most(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None


def headers_for(host: str, key: str | None, extra: Mapping[str, str]) -> dict[str, str]:
    """The headers of every attempt: those of the API page, then the job's own, which win."""
    wanted = {
        "Host": host,
        "Accept": "application/json, text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Content-Type": "application/json",
        "User-Agent": "batchrun",
    }
    if key is not None:
        wanted["Authorization"] = f"Bearer {key}"
    own = {name.lower() for name in extra}
    return {name: value for name, value in wanted.items() if name.lower() not in own} | dict(extra)


def sent_body(request: Request, model: str | None = None) -> bytes:
    """The bytes that go on the wire: the canonical body, and whether its answer shall be streamed.

    `model` is the asked model's name at this endpoint, where it has another one there.
    """
    body = request.body
    if model is not None and model != request.model:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
        body = msgspec.json.encode(fields)
    return body[:-1] + _STREAMED if request.stream else body


def most_tokens(body: bytes) -> int | None:
    """The most tokens that a request allows one choice of its answer, under any of the names; None where it says nothing."""
    said = msgspec.json.decode(body, type=_Most)
    named = (said.max_completion_tokens, said.max_tokens, said.max_output_tokens)
    return next((most for most in named if isinstance(most, int) and most > 0), None)
