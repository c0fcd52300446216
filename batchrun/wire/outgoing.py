"""What goes out: the headers and the body of one attempt. The request itself, and its identity, are never changed here."""

from collections.abc import Mapping
from typing import Any

import msgspec

from batchrun.records import Request

_STREAMED = b',"stream":true,"stream_options":{"include_usage":true}}'


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
