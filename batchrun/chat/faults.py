"""What an error of an endpoint means: one table, the body's code, type and message first, the status second.

The only place that looks for words in a message (endpoint.md §3–§4).
"""

import html
import re
from typing import Any, NamedTuple

from batchrun.errors import EndpointError, Kind

_CODES: dict[str, Kind] = {
    # OpenAI's error codes and types, and what relays of the one-api and new-api kind send in their place
    "invalid_api_key": Kind.CREDENTIALS,
    "authentication_error": Kind.CREDENTIALS,
    "invalid_authentication": Kind.CREDENTIALS,
    "permission_error": Kind.CREDENTIALS,
    "permission_denied": Kind.CREDENTIALS,
    "account_deactivated": Kind.CREDENTIALS,
    "token_expired": Kind.CREDENTIALS,
    "insufficient_quota": Kind.CREDIT,
    "insufficient_user_quota": Kind.CREDIT,
    "pre_consume_token_quota_failed": Kind.CREDIT,
    "billing_hard_limit_reached": Kind.CREDIT,
    "billing_not_active": Kind.CREDIT,
    "billing_error": Kind.CREDIT,
    "credit_balance_exhausted": Kind.CREDIT,
    "budget_exceeded": Kind.CREDIT,
    "model_not_found": Kind.NOT_FOUND,
    "deploymentnotfound": Kind.NOT_FOUND,
    "not_found_error": Kind.NOT_FOUND,
    "model_not_available": Kind.NOT_FOUND,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "rate_limit_reached": Kind.RATE_LIMITED,
    "too_many_requests": Kind.RATE_LIMITED,
    "slow_down": Kind.RATE_LIMITED,
    "engine_overloaded": Kind.RATE_LIMITED,
    "overloaded_error": Kind.SERVER,
    "server_error": Kind.SERVER,
    "api_error": Kind.SERVER,
    "internal_server_error": Kind.SERVER,
    "internal_error": Kind.SERVER,
    "service_unavailable": Kind.SERVER,
    "do_request_failed": Kind.SERVER,
    "bad_response_status_code": Kind.SERVER,
    "timeout_error": Kind.SERVER,
    "context_length_exceeded": Kind.BAD_REQUEST,
    "string_above_max_length": Kind.BAD_REQUEST,
    "unsupported_parameter": Kind.BAD_REQUEST,
    "unsupported_value": Kind.BAD_REQUEST,
    "request_too_large": Kind.BAD_REQUEST,
    "content_filter": Kind.CONTENT_FILTER,
    "content_policy_violation": Kind.CONTENT_FILTER,
    "responsibleaipolicyviolation": Kind.CONTENT_FILTER,
    "sensitive_words_detected": Kind.CONTENT_FILTER,
    "prompt_blocked": Kind.CONTENT_FILTER,
}
_PHRASES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (
        re.compile(r"余额不足|额度.{0,6}(不足|用尽|耗尽|已用完)|已欠费|欠费|insufficient.{0,12}(quota|balance|credit)"),
        Kind.CREDIT,
    ),
    (
        re.compile(r"credit balance is too low|exceeded your current quota|spend(ing)? limit|billing hard limit"),
        Kind.CREDIT,
    ),
    (
        re.compile(r"(incorrect|invalid|missing).{0,20}api.?key|无效的令牌|令牌.{0,8}(过期|无效)|未提供令牌"),
        Kind.CREDENTIALS,
    ),
    (re.compile(r"model .{1,120} (does not exist|not found)|无可用渠道|模型.{0,40}不存在"), Kind.NOT_FOUND),
    (re.compile(r"maximum context length|context window|prompt is too long"), Kind.BAD_REQUEST),
    (re.compile(r"rate limit|too many requests|请求过于频繁|负载已饱和"), Kind.RATE_LIMITED),
    (re.compile(r"content management policy|敏感词|违规内容"), Kind.CONTENT_FILTER),
)
_TITLE = re.compile(r"<(title|h1|h2)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_STATUSES: dict[int, Kind] = {
    401: Kind.CREDENTIALS,
    402: Kind.CREDIT,
    403: Kind.CREDENTIALS,
    404: Kind.NOT_FOUND,
    405: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,
    425: Kind.SERVER,
    429: Kind.RATE_LIMITED,
    529: Kind.RATE_LIMITED,
}


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
        if isinstance(nested, dict) and "message" not in error:
            error = nested
        return ErrorBody(*(_text(error.get(key)) for key in ("message", "type", "code", "param")))
    if isinstance(error, str) and error:
        return ErrorBody(error, _text(value.get("type")), _text(value.get("code")), "")
    if error:
        return ErrorBody(_text(error), "", "", "")
    if value.get("object") == "error":
        return ErrorBody(*(_text(value.get(key)) for key in ("message", "type", "code", "param")))
    errors = value.get("errors")
    if isinstance(errors, list) and errors:
        first = errors[0]
        return read_error({"error": first}) if isinstance(first, dict | str) else ErrorBody(_text(first), "", "", "")
    if "choices" in value:
        return None
    for key in ("message", "msg", "detail"):
        if value.get(key):
            return ErrorBody(_text(value[key]), _text(value.get("type")), _text(value.get("code")), "")
    return None


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
    status: int, error: ErrorBody | None, *, retry_after_s: float | None = None, body: str | None = None
) -> EndpointError:
    """The EndpointError for an error answer: by code and type, then by phrase, then by status."""
    kind = _by_body(error, status) if error is not None else None
    if kind is None:
        code = int(error.code) if error is not None and re.fullmatch(r"[0-9]{3}", error.code) else status
        kind = _by_status(code if code >= 400 else status, retry_after_s)
    message = (error.message or error.code or error.type) if error is not None else (body or "").strip()[:300]
    if error is not None and error.code and error.code not in message:
        message = f"{message} ({error.code})"
    shown = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    return EndpointError(kind, shown, status=status, retry_after_s=retry_after_s, body=body)


def _by_body(error: ErrorBody, status: int) -> Kind | None:
    for word in (error.code, error.type):
        kind = _CODES.get(word.lower())
        if kind is not None:
            return kind
    text = error.message.lower()
    for pattern, kind in _PHRASES:
        if pattern.search(text):
            return kind
    # OpenAI gives this type to wrong keys and unknown paths too: there the status says more
    if error.type.lower() == "invalid_request_error" and not error.code.isdigit() and status not in _STATUSES:
        return Kind.BAD_REQUEST
    return None


def _by_status(status: int, retry_after_s: float | None) -> Kind:
    if status == 503 and retry_after_s is not None:
        return Kind.RATE_LIMITED
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 400:
        return Kind.NOT_FOUND
    if 400 <= status < 500:
        return Kind.BAD_REQUEST
    return Kind.SERVER


def page_title(text: str) -> str:
    """The title of an HTML page (or its first heading), in one line; empty where there is none."""
    found = _TITLE.search(text)
    return " ".join(html.unescape(_TAG.sub(" ", found[2])).split())[:200] if found else ""


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)
