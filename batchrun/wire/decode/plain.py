"""A body that is plain JSON, or was meant to be: its value, the fault that it carries, and the fault that it is."""

import re
from typing import Any

from batchrun.errors import EndpointError, Kind
from batchrun.wire.decode.answer import parse_json
from batchrun.wire.faults.classify import barred, error_in, page_title

SHOWN = 8192
"""So many bytes of a body that can't be read are kept."""
_DONE_BEHIND = re.compile(rb"\s*data:\s*\[DONE\]\s*\Z")
# possessive and atomic: what is skipped is never tried again, however many comments there are
_PAGE = re.compile(rb"(?:\s|(?><!--.*?-->))*+<(?:!doctype html|html|head|body|title)\b", re.IGNORECASE | re.DOTALL)
_PAGE_REMEDY = "check that [endpoint] base_url is an OpenAI-compatible endpoint"
_CONTENT = ("content", "text", "tool_calls", "refusal", "reasoning", "reasoning_content", "reasoning_details")


def plain_value(body: bytes) -> Any:
    if b"[DONE]" in body[-64:]:
        body = _DONE_BEHIND.sub(b"", body)
    try:
        return parse_json(body)
    except ValueError:
        if _PAGE.match(body):
            raise _page(body[:SHOWN].decode("utf-8", "replace")) from None
        raise malformed("the answer is not JSON", body) from None


def sound_object(value: Any, body: bytes | bytearray) -> dict[str, Any]:
    fault = error_in(value)
    if fault is not None:
        raise fault
    if not isinstance(value, dict):
        raise malformed("the answer is JSON but no object", body)
    return value


def has_content(value: Any) -> bool:
    """Whether a choice of a plain body has something of an answer."""
    choices = value.get("choices") if isinstance(value, dict) else None
    messages = [one.get("message") or one for one in choices or () if isinstance(one, dict)] if choices else []
    return any(isinstance(one, dict) and any(map(one.get, _CONTENT)) for one in messages)


def _page(text: str) -> EndpointError:
    """A page for people under HTTP 200 comes from what stands before the endpoint, or from what is none at all."""
    if (fault := barred(200, text)) is not None:
        return fault
    title = page_title(text)
    said = "the answer is an HTML page" + (f": {title}" if title else "")
    return EndpointError(Kind.SERVER, said, status=200, body=text, remedy=_PAGE_REMEDY)


def malformed(message: str, body: bytes | bytearray) -> EndpointError:
    return EndpointError(Kind.MALFORMED, message, body=body[:SHOWN].decode("utf-8", "replace"), unconfirmed=True)
