"""The fault tables of endpoint.md §3–§4: which shape and status means which kind."""

from typing import Any

import pytest

from batchrun.errors import Kind
from batchrun.wire.faults.classify import ErrorBody, classify, error_in, read_error

SHAPES: list[tuple[Any, ErrorBody | None]] = [
    (
        {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
        ErrorBody(message="m", type="t", code="c", param="p"),
    ),
    ({"error": {"message": "m", "code": 429}}, ErrorBody("m", "", "429", "")),
    ({"error": {"message": "m", "type": None}}, ErrorBody("m", "", "", "")),
    ({"object": "error", "message": "m", "type": "t", "code": 40001}, ErrorBody("m", "t", "40001", "")),
    (
        {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
        ErrorBody("m", "overloaded_error", "", ""),
    ),
    ({"error": {"error": {"message": "m", "type": "t"}}}, ErrorBody("m", "t", "", "")),
    ({"error": "text"}, ErrorBody("text", "", "", "")),
    ({"error": True}, ErrorBody("True", "", "", "")),
    ({"message": "m", "code": "c"}, ErrorBody("m", "", "c", "")),
    ({"msg": "m"}, ErrorBody("m", "", "", "")),
    ({"detail": "m"}, ErrorBody("m", "", "", "")),
    ({"detail": [{"loc": ["body"]}]}, ErrorBody("[{'loc': ['body']}]", "", "", "")),
    ({"errors": [{"message": "m", "code": "c"}]}, ErrorBody("m", "", "c", "")),
    ({"errors": ["m"]}, ErrorBody("m", "", "", "")),
    ([{"error": {"message": "m", "code": 400}}], ErrorBody("m", "", "400", "")),
    ({"choices": [], "message": "no error"}, None),
    ({"error": None}, None),
    ({}, None),
    ([], None),
    ("text", None),
    (None, None),
]


@pytest.mark.parametrize(("value", "expected"), SHAPES, ids=str)
def test_shape(value: Any, expected: ErrorBody | None) -> None:
    """An error is read in every shape that endpoints send."""
    assert read_error(value) == expected


BY_STATUS = {
    400: Kind.BAD_REQUEST,
    401: Kind.CREDENTIALS,
    402: Kind.CREDIT,
    403: Kind.CREDENTIALS,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,
    413: Kind.BAD_REQUEST,
    422: Kind.BAD_REQUEST,
    425: Kind.SERVER,
    429: Kind.RATE_LIMITED,
    **dict.fromkeys((500, 502, 503, 504, 520, 521, 522, 523, 524), Kind.SERVER),
    529: Kind.RATE_LIMITED,
}


@pytest.mark.parametrize(("status", "kind"), BY_STATUS.items())
@pytest.mark.parametrize("body", ["", "<html>busy</html>"])
def test_status_alone(status: int, kind: Kind, body: str) -> None:
    """Where the body says nothing that is known, the status decides; the message shows both."""
    error = classify(status, None, body=body)
    assert (error.kind, error.status) == (kind, status)
    assert error.message == (f"HTTP {status}: {body}" if body else f"HTTP {status}")


def test_503_with_a_stated_wait_is_a_rate_limit() -> None:
    """A 503 that says when to come back is a rate limit, and carries the wait."""
    error = classify(503, None, retry_after_s=4.0)
    assert (error.kind, error.retry_after_s) == (Kind.RATE_LIMITED, 4.0)


def said(message: str = "", kind: str = "", code: str = "") -> ErrorBody:
    return ErrorBody(message, kind, code, "")


BY_BODY: list[tuple[int, ErrorBody, Kind]] = [
    (429, said("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), Kind.CREDIT),
    (429, said("You exceeded your current quota, please check"), Kind.CREDIT),
    (401, said("x", "", "credit_balance_exhausted"), Kind.CREDIT),
    (403, said("用户额度不足, 剩余额度: ¥0.00", "new_api_error", "insufficient_user_quota"), Kind.CREDIT),
    (403, said("账户余额不足"), Kind.CREDIT),
    (500, said("已欠费"), Kind.CREDIT),
    (400, said("Your credit balance is too low to access the API", "invalid_request_error"), Kind.CREDIT),
    (200, said("Spending limit reached"), Kind.CREDIT),
    (401, said("Incorrect API key provided: sk-x", "invalid_request_error", "invalid_api_key"), Kind.CREDENTIALS),
    (401, said("You didn't provide an API key", "invalid_request_error"), Kind.CREDENTIALS),
    (200, said("无效的令牌", "new_api_error"), Kind.CREDENTIALS),
    (400, said("API key not valid: invalid api key", "invalid_request_error"), Kind.CREDENTIALS),
    (404, said("The model `x` does not exist", "invalid_request_error", "model_not_found"), Kind.NOT_FOUND),
    (404, said("Invalid URL (POST /v2/chat/completions)", "invalid_request_error"), Kind.NOT_FOUND),
    (503, said("当前分组 default 下对于模型 x 无可用渠道", "new_api_error"), Kind.NOT_FOUND),
    (500, said("model x not found, try pulling it first"), Kind.NOT_FOUND),
    (200, said("Rate limit reached", "requests", "rate_limit_exceeded"), Kind.RATE_LIMITED),
    (429, said("Too fast", "invalid_request_error"), Kind.RATE_LIMITED),
    (500, said("当前分组上游负载已饱和，请稍后再试"), Kind.RATE_LIMITED),
    (503, said("Slow down", "", "slow_down"), Kind.RATE_LIMITED),
    (500, said("upstream said so", "", "429"), Kind.RATE_LIMITED),
    (529, said("Overloaded", "overloaded_error"), Kind.SERVER),
    (400, said("x", "server_error"), Kind.SERVER),
    (200, said("something broke"), Kind.SERVER),
    (200, said("bad gateway", "", "502"), Kind.SERVER),
    (500, said("too long", "", "context_length_exceeded"), Kind.BAD_REQUEST),
    (500, said("This model's maximum context length is 8192 tokens"), Kind.BAD_REQUEST),
    (500, said("bad value", "invalid_request_error"), Kind.BAD_REQUEST),
    (200, said("bad value", "", "400"), Kind.BAD_REQUEST),
    (400, said("x", "invalid_request_error", "content_filter"), Kind.CONTENT_FILTER),
    (500, said("x", "new_api_error", "sensitive_words_detected"), Kind.CONTENT_FILTER),
    (400, said("filtered due to Azure's content management policy"), Kind.CONTENT_FILTER),
    (500, said("odd code", "", "²²²"), Kind.SERVER),
]


@pytest.mark.parametrize(("status", "error", "kind"), BY_BODY, ids=str)
def test_body_before_status(status: int, error: ErrorBody, kind: Kind) -> None:
    """The body's code, type and message are believed before the status."""
    assert classify(status, error).kind is kind


def test_message_shows_status_text_and_code() -> None:
    """A message holds the status, the endpoint's words and its code, once each."""
    assert classify(400, said("Bad", "t", "c7")).message == "HTTP 400: Bad (c7)"
    assert classify(400, said("Bad c7", "t", "c7")).message == "HTTP 400: Bad c7"
    assert classify(400, said("", "t", "")).message == "HTTP 400: t"


def test_error_in_a_good_answer() -> None:
    """An answer with choices and `error: null` is no fault; an error in HTTP 200 is one."""
    assert error_in({"choices": [], "error": None}) is None
    assert error_in({"id": "x", "usage": {}}) is None
    fault = error_in({"choices": [], "error": {"message": "m", "code": "rate_limit_exceeded"}})
    assert fault is not None
    assert (fault.kind, fault.status) == (Kind.RATE_LIMITED, 200)
