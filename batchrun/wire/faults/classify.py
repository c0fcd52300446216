"""What an error of an endpoint means: the body's code, type and message first, the status second (endpoint.md §3–§4).

With its tables in fault_words.py the only place that looks for words in a message.
"""

import html
import re
from typing import Any, NamedTuple

from batchrun.errors import EndpointError, Kind
from batchrun.wire.faults.waits import wait_in_text
from batchrun.wire.faults.words import (
    ABOUT_TIME,
    AT_ONCE,
    BLOCKED,
    BLOCKED_CODE,
    CHALLENGE,
    CODES,
    GAVE_UP,
    LIMIT_AND_REQUEST,
    OF_MODEL,
    OF_MODEL_PHRASE,
    PHRASES,
    QUOTAS,
    SHORT_LIMIT,
    STATUSES,
    TIMED_OUT,
    VAGUE,
    WRONG_SCHEME,
)

# an opening tag ends at the next `<` at the latest: a text of a thousand openings is read once, not a thousand times
_HEADING = re.compile(r"<(title|h1|h2)\b[^<>]*>", re.IGNORECASE)
_LOOKED_AT = 1 << 16
_CHALLENGE_REMEDY = (
    "ask who runs it to let API clients pass, or take the host that is meant for them as [endpoint] base_url"
)
_BLOCKED_REMEDY = (
    "it dislikes what a row says, or your address, not the key: change the rows, or ask who runs it to let you pass"
)
_TAG = re.compile(r"<[^<>]*>")
_QUOTA_ID = re.compile(r'"quotaId"\s*:\s*"[^"]{0,200}Per(Day|Month)')
_URL = re.compile(r"https?://\S+")


class ErrorBody(NamedTuple):
    """The parts of an error that any of the known shapes carry; empty text where one is missing."""

    message: str
    type: str
    code: str
    param: str


def read_error(value: Any) -> ErrorBody | None:
    """The error in a decoded body, in any of the shapes of endpoint.md §3; None where there is none."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        nested = error.get("error")
        return _fields(nested if isinstance(nested, dict) and "message" not in error else error)
    if isinstance(error, str) and error:
        return _fields({**value, "message": error}, param="")
    if error:
        return ErrorBody(_text(error), "", "", "")
    if value.get("object") == "error":
        return _fields(value)
    errors = value.get("errors")
    if isinstance(errors, list) and errors:
        first = errors[0]
        return read_error({"error": first}) if isinstance(first, dict | str) else ErrorBody(_text(first), "", "", "")
    if "choices" in value:
        return None
    for key in ("message", "msg", "detail"):
        if value.get(key):
            return _fields({**value, "message": value[key]}, param="")
    return None


def _fields(error: dict[str, Any], param: str | None = None) -> ErrorBody:
    """The four parts of an error object, also from where Google, OpenRouter and Spring put them."""
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    status = error.get("status")
    message, kind, code = _text(error.get("message")), _text(error.get("type")), _text(error.get("code"))
    if not kind:
        kind = status if isinstance(status, str) else _text(metadata.get("error_type"))
    if not code and isinstance(status, int):
        code = str(status)
    raw = metadata.get("raw")
    if raw and isinstance(raw, str):
        message = f"{message}: {raw[:500]}"
    return ErrorBody(message, kind, code, _text(error.get("param")) if param is None else param)


def error_in(value: Any, status: int = 200) -> EndpointError | None:
    """The fault that a body with HTTP 200 carries, or None. A choice may carry one of its own, as OpenRouter's do."""
    if isinstance(value, dict) and "choices" in value and not value.get("error"):
        choices, value = value["choices"], None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("error"):
                value = choice
    error = None if value is None else read_error(value)
    return None if error is None else classify(status, error)


def classify(
    status: int,
    error: ErrorBody | None,
    *,
    retry_after_s: float | None = None,
    body: str | None = None,
    limit_type: str = "",
) -> EndpointError:
    """The EndpointError for an error answer: by code and type, then by phrase, then by status. `limit_type` is what a header
    says of the sort of a limit.
    """
    if error is None and body and (fault := _from_between(status, body)) is not None:
        return fault
    kind = _by_body(error, status) if error is not None else None
    code = int(error.code) if error is not None and re.fullmatch(r"[0-9]{3}", error.code) else status
    if kind is None:
        kind = _by_status(code if code >= 400 else status)
    message = (error.message or error.code or error.type) if error is not None else (body or "").strip()
    if "<" in message:
        message = page_title(message) or message
    if kind is Kind.RATE_LIMITED and retry_after_s is None:
        retry_after_s = wait_in_text(message)
        if retry_after_s is None and body:
            retry_after_s = wait_in_text(body)
    if kind is Kind.SERVER and status in (503, 529) and retry_after_s is not None:
        kind = Kind.RATE_LIMITED
    if error is None:
        message = message[:300]
    elif error.code and error.code != str(status) and error.code not in message:
        message = f"{message} ({error.code})"
    # nginx and others begin a page's title with the status
    told = re.sub(rf"^{status}\b[\s:|-]*", "", message)
    shown = f"HTTP {status}: {told}" if told else f"HTTP {status}"
    param = error.param or None if error is not None else None
    gave_up = kind in (Kind.SERVER, Kind.TIMEOUT) and _gave_up({status, code}, error, message)
    return EndpointError(
        kind,
        shown,
        status=status,
        retry_after_s=retry_after_s,
        body=body,
        param=param,
        unconfirmed=gave_up,
        at_once=kind is Kind.RATE_LIMITED and _is_at_once(error, limit_type),
        quota=_quota(error, body) if kind is Kind.RATE_LIMITED else None,
        of_model=kind in (Kind.NOT_FOUND, Kind.CREDENTIALS) and _is_of_model(error),
    )


def _from_between(status: int, body: str) -> EndpointError | None:
    """The fault of a page that stands before an endpoint: of a firewall, of a check for bots, of a port of TLS."""
    text = body[:_LOOKED_AT].lower()
    if WRONG_SCHEME.search(text):
        said = f"HTTP {status}: the port speaks TLS, and was spoken to without"
        return EndpointError(
            Kind.CONNECT, said, status=status, body=body, remedy="write https:// in [endpoint] base_url"
        )
    return barred(status, body)


def barred(status: int, page: str) -> EndpointError | None:
    """The fault of a page by which something before the endpoint keeps requests from it; None for any other."""
    text = page[:_LOOKED_AT].strip().lower()
    is_page = text.startswith("<")
    if BLOCKED_CODE.fullmatch(text) or (is_page and BLOCKED.search(text)):
        return _blocked(status, page)
    return _challenged(status, page) if is_page and CHALLENGE.search(text) else None


def _blocked(status: int, page: str) -> EndpointError:
    """The fault of a firewall's page: of a row's words, or of everybody's address."""
    told = page_title(page) or (page.strip() if len(page) < 100 else "")
    said = f"HTTP {status}: a firewall before the endpoint blocks the request" + (f": {told}" if told else "")
    kind = Kind.CREDENTIALS if status < 500 else Kind.SERVER
    return EndpointError(kind, said, status=status, body=page, remedy=_BLOCKED_REMEDY)


def _challenged(status: int, page: str) -> EndpointError:
    """The fault of a page that lets browsers alone pass."""
    title = page_title(page)
    said = f"HTTP {status}: a challenge for browsers stands before the endpoint" + (f": {title}" if title else "")
    kind = Kind.CREDENTIALS if status in (401, 403) else Kind.SERVER
    return EndpointError(kind, said, status=status, body=page, remedy=_CHALLENGE_REMEDY)


def _gave_up(codes: set[int], error: ErrorBody | None, message: str) -> bool:
    """Whether somebody on the way no longer waited for an answer that was being made."""
    words = () if error is None else (error.type.lower(), error.code.lower())
    return bool(codes & GAVE_UP or TIMED_OUT.search(message.lower()) or any("timeout" in word for word in words))


def _by_body(error: ErrorBody, status: int) -> Kind | None:
    text = error.message.lower()
    words = (error.code.lower(), error.type.lower())
    if _never_fits(text):
        return Kind.BAD_REQUEST
    for word in words:
        if word in CODES:
            return Kind.RATE_LIMITED if CODES[word] is Kind.CREDIT and _is_about_time(text) else CODES[word]
        if word.startswith("channel:"):  # new-api: a fault of one channel of its pool
            return Kind.SERVER
    for kind, pattern in PHRASES:
        if pattern.search(text):
            return kind
    for word in words:
        if word in VAGUE:
            return VAGUE[word]
    # OpenAI gives this type to wrong keys and unknown paths too: there the status says more
    if "invalid_request" in error.type.lower() and not error.code.isdigit() and status not in STATUSES:
        return Kind.BAD_REQUEST
    return None


def _is_about_time(text: str) -> bool:
    """Whether a message speaks of a limit that time renews, and not of money."""
    money = any(kind is Kind.CREDIT and pattern.search(text) for kind, pattern in PHRASES)
    return not money and ABOUT_TIME.search(_URL.sub("", text)) is not None


def _quota(error: ErrorBody | None, body: str | None) -> str | None:
    """Whether a rate limit is of a whole `day` or `month`."""
    if body and (named := _QUOTA_ID.search(body[:_LOOKED_AT])):
        return named[1].lower()
    said = "" if error is None else _URL.sub("", f"{error.code} {error.type} {error.message}".lower())
    if SHORT_LIMIT.search(said):
        return None
    return next((name for name, words in QUOTAS.items() if words.search(said)), None)


def _is_at_once(error: ErrorBody | None, limit_type: str) -> bool:
    """Whether a rate limit counts what is in flight."""
    said = limit_type if error is None else f"{limit_type} {error.code} {error.type} {error.message}"
    return AT_ONCE.search(said.lower()) is not None


def _is_of_model(error: ErrorBody | None) -> bool:
    """Whether a refusal says that it is the model that is not there, or not for this key."""
    if error is None:
        return False
    coded = {error.code.lower(), error.type.lower()} & OF_MODEL
    return bool(coded) or OF_MODEL_PHRASE.search(error.message.lower()) is not None


def _never_fits(text: str) -> bool:
    """Whether one request alone is larger than the whole limit: no wait will let it through."""
    found = LIMIT_AND_REQUEST.search(text)
    if found is not None:
        limit, requested = (int(number.replace(",", "")) for number in found.groups())
        return requested > limit
    return "request too large" in text


def _by_status(status: int) -> Kind:
    if status in STATUSES:
        return STATUSES[status]
    if 300 <= status < 400:
        return Kind.NOT_FOUND
    return Kind.BAD_REQUEST if 400 <= status < 500 else Kind.SERVER


def page_title(text: str) -> str:
    """The title of an HTML page (or its first heading), in one line; empty where there is none."""
    opened = _HEADING.search(text)
    if opened is None:
        return ""
    closed = re.compile(rf"</{opened[1]}", re.IGNORECASE).search(text, opened.end())
    if closed is None:
        return ""
    return " ".join(html.unescape(_TAG.sub(" ", text[opened.end() : closed.start()])).split())[:200]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)
