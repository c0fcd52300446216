"""Every documented error lands in the right kind (endpoint.md §3–§4). Beside each row stands where it is documented.

Rows are answers as the endpoint sends them: an HTTP status and a JSON body, made from its documentation or its code.
"""

import json
from typing import Any, NamedTuple

import pytest

from batchrun.errors import Kind
from batchrun.wire.faults.classify import ErrorBody, classify, read_error

OPENAI = "OpenAI, Error codes (developers.openai.com/api/docs/guides/error-codes)"
SPEND = "OpenAI, Troubleshooting API usage and spend limits (help.openai.com article 6614457)"
ANTHROPIC = "Anthropic, Errors (docs.claude.com/en/api/errors)"
AZURE = "Azure OpenAI, Content filtering; Q&A on rate limits (learn.microsoft.com)"
GOOGLE = "Gemini API, Troubleshooting guide (ai.google.dev/gemini-api/docs/troubleshooting)"
OPENROUTER = "OpenRouter, Errors and Debugging (openrouter.ai/docs/api/reference/errors-and-debugging)"
OPENROUTER_TYPES = "OpenRouter, APIErrorType (openrouter.ai/docs/client-sdks/python/components/apierrortype)"
VLLM = "vllm-project/vllm, vllm/entrypoints/openai/serving_engine.py"
SGLANG = "sgl-project/sglang, python/sglang/srt/managers/scheduler.py and entrypoints/openai"
LLAMA = "ggml-org/llama.cpp, tools/server/server-common.cpp, format_error_response"
OLLAMA = "ollama/ollama, middleware/openai.go, openai/openai.go, server/sched.go"
LITELLM = "BerriAI/litellm, litellm/proxy/_types.py, ProxyErrorTypes; litellm/exceptions.py"
DEEPSEEK = "DeepSeek, Error Codes (api-docs.deepseek.com/quick_start/error_codes)"
GROQ = "Groq, API Error Codes and Responses (console.groq.com/docs/errors)"
TOGETHER = "Together, Error codes (docs.together.ai/docs/error-codes)"
ONE_API = "songquanpeng/one-api, middleware/distributor.go, model/token.go, monitor/manage.go"
NEW_API = "QuantumNous/new-api, types/error.go, i18n/locales/zh-CN.yaml, middleware/distributor.go"


class Row(NamedTuple):
    source: str
    status: int
    body: Any
    kind: Kind


def error(message: str, kind: str | None = None, code: str | int | None = None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def claude(kind: str, message: str = "…") -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_0"}


def google(code: int, status: str, message: str = "…") -> Any:
    return [{"error": {"code": code, "message": message, "status": status, "details": []}}]


def router(code: int, message: str, **metadata: Any) -> Any:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_0"}


def flat(code: int, kind: str, message: str) -> Any:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


INVALID = "invalid_request_error"
ROWS: list[Row] = [
    Row(OPENAI, 401, error("Incorrect API key provided: sk-x.", INVALID, "invalid_api_key"), Kind.CREDENTIALS),
    Row(OPENAI, 401, error("Invalid Authentication", INVALID), Kind.CREDENTIALS),
    Row(OPENAI, 401, error("You must be a member of an organization to use the API", INVALID), Kind.CREDENTIALS),
    Row(OPENAI, 401, error("Your IP is not authorized", INVALID, "ip_not_authorized"), Kind.CREDENTIALS),
    Row(
        OPENAI,
        403,
        error("Country not supported", "request_forbidden", "unsupported_country_region_territory"),
        Kind.CREDENTIALS,
    ),
    Row(OPENAI, 429, error("Rate limit reached for m", "requests", "rate_limit_exceeded"), Kind.RATE_LIMITED),
    Row(OPENAI, 429, error("Rate limit reached", "tokens", "rate_limit_exceeded"), Kind.RATE_LIMITED),
    Row(
        OPENAI, 429, error("You exceeded your current quota, please check your plan", "insufficient_quota"), Kind.CREDIT
    ),
    Row(OPENAI, 429, error("Slow down", "rate_limit_error", "slow_down"), Kind.RATE_LIMITED),
    Row(OPENAI, 503, error("Slow down", "service_unavailable_error", "slow_down"), Kind.RATE_LIMITED),
    Row(OPENAI, 503, error("Overloaded", "service_unavailable_error", "server_is_overloaded"), Kind.RATE_LIMITED),
    Row(OPENAI, 503, error("The engine is currently overloaded", "server_error"), Kind.SERVER),
    Row(OPENAI, 500, error("The server had an error while processing your request", "server_error"), Kind.SERVER),
    Row(OPENAI, 400, error("Invalid service_tier argument", INVALID, None, "service_tier"), Kind.BAD_REQUEST),
    Row(OPENAI, 400, error("Too long", INVALID, "context_length_exceeded", "messages"), Kind.BAD_REQUEST),
    Row(OPENAI, 400, error("Unsupported parameter", INVALID, "unsupported_parameter", "max_tokens"), Kind.BAD_REQUEST),
    Row(OPENAI, 404, error("The model `m` does not exist", INVALID, "model_not_found"), Kind.NOT_FOUND),
    Row(OPENAI, 404, error("Invalid URL (POST /v1/x)", INVALID), Kind.NOT_FOUND),
    Row(
        OPENAI,
        400,
        error("Invalid prompt: flagged as potentially violating", INVALID, "invalid_prompt"),
        Kind.CONTENT_FILTER,
    ),
    Row(
        OPENAI,
        429,
        error("Request too large for m: Limit 30000, Requested 52340.", "tokens", "rate_limit_exceeded"),
        Kind.BAD_REQUEST,
    ),
    Row(
        OPENAI,
        429,
        error("Rate limit reached: Limit 30000, Used 29000, Requested 5000.", "tokens", "rate_limit_exceeded"),
        Kind.RATE_LIMITED,
    ),
    *(
        Row(SPEND, 429, error("…", "insufficient_quota", code), Kind.CREDIT)
        for code in (
            "credit_balance_exhausted",
            "organization_usage_limit_exceeded",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
        )
    ),
    Row(SPEND, 401, error("…", None, "credit_balance_exhausted"), Kind.CREDIT),
    Row(ANTHROPIC, 400, claude(INVALID), Kind.BAD_REQUEST),
    Row(ANTHROPIC, 400, claude(INVALID, "Your credit balance is too low to access the API"), Kind.CREDIT),
    Row(ANTHROPIC, 400, claude(INVALID, "You have reached your specified API usage limits."), Kind.CREDIT),
    Row(ANTHROPIC, 400, claude(INVALID, "This organization has been disabled."), Kind.CREDENTIALS),
    Row(ANTHROPIC, 400, claude(INVALID, "prompt is too long: 250000 tokens > 200000 maximum"), Kind.BAD_REQUEST),
    Row(ANTHROPIC, 401, claude("authentication_error"), Kind.CREDENTIALS),
    Row(ANTHROPIC, 402, claude("billing_error"), Kind.CREDIT),
    Row(ANTHROPIC, 403, claude("permission_error"), Kind.CREDENTIALS),
    Row(ANTHROPIC, 404, claude("not_found_error"), Kind.NOT_FOUND),
    Row(ANTHROPIC, 409, claude("conflict_error"), Kind.SERVER),
    Row(ANTHROPIC, 413, claude("request_too_large"), Kind.BAD_REQUEST),
    Row(ANTHROPIC, 429, claude("rate_limit_error"), Kind.RATE_LIMITED),
    Row(ANTHROPIC, 500, claude("api_error"), Kind.SERVER),
    Row(ANTHROPIC, 504, claude("timeout_error"), Kind.SERVER),
    Row(ANTHROPIC, 529, claude("overloaded_error"), Kind.SERVER),
    Row(ANTHROPIC, 200, claude("overloaded_error"), Kind.SERVER),
    Row(AZURE, 400, error("The response was filtered", None, "content_filter", "prompt"), Kind.CONTENT_FILTER),
    Row(AZURE, 400, error("… triggering Azure OpenAI's content management policy."), Kind.CONTENT_FILTER),
    Row(AZURE, 401, error("Access denied due to invalid subscription key", None, "401"), Kind.CREDENTIALS),
    Row(AZURE, 404, error("The API deployment does not exist.", None, "DeploymentNotFound"), Kind.NOT_FOUND),
    Row(AZURE, 404, error("Resource not found", None, "404"), Kind.NOT_FOUND),
    Row(AZURE, 429, error("exceeded call rate limit. Please retry after 7 seconds.", None, "429"), Kind.RATE_LIMITED),
    Row(AZURE, 429, error("…", None, "RateLimitReached"), Kind.RATE_LIMITED),
    Row(AZURE, 500, error("…", None, "InternalServerError"), Kind.SERVER),
    Row(GOOGLE, 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid key."), Kind.CREDENTIALS),
    Row(GOOGLE, 400, google(400, "INVALID_ARGUMENT", "Unknown name"), Kind.BAD_REQUEST),
    Row(
        GOOGLE, 400, google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"), Kind.BAD_REQUEST
    ),
    Row(GOOGLE, 400, google(400, "FAILED_PRECONDITION"), Kind.BAD_REQUEST),
    Row(GOOGLE, 403, google(403, "PERMISSION_DENIED"), Kind.CREDENTIALS),
    Row(GOOGLE, 404, google(404, "NOT_FOUND"), Kind.NOT_FOUND),
    Row(GOOGLE, 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"), Kind.RATE_LIMITED),
    Row(
        GOOGLE,
        429,
        error("You exceeded your current quota. * Quota exceeded for metric: x/free_tier, limit: 15", "upstream_error"),
        Kind.RATE_LIMITED,
    ),
    Row(GOOGLE, 500, google(500, "INTERNAL"), Kind.SERVER),
    Row(GOOGLE, 503, google(503, "UNAVAILABLE", "The model is overloaded."), Kind.SERVER),
    Row(GOOGLE, 504, google(504, "DEADLINE_EXCEEDED"), Kind.SERVER),
    Row(OPENROUTER, 400, router(400, "m is not a valid model ID"), Kind.NOT_FOUND),
    Row(OPENROUTER, 401, router(401, "No auth credentials found"), Kind.CREDENTIALS),
    Row(OPENROUTER, 402, router(402, "Insufficient credits"), Kind.CREDIT),
    Row(OPENROUTER, 402, router(402, "This request requires more credits, or fewer max_tokens."), Kind.CREDIT),
    Row(OPENROUTER, 403, router(403, "m requires moderation. Your input was flagged for x"), Kind.CONTENT_FILTER),
    Row(OPENROUTER, 403, router(403, "Key limit exceeded"), Kind.CREDIT),
    Row(OPENROUTER, 404, router(404, "No endpoints found for m."), Kind.NOT_FOUND),
    Row(OPENROUTER, 408, router(408, "Your request timed out"), Kind.TIMEOUT),
    Row(OPENROUTER, 429, router(429, "Rate limit exceeded: free-models-per-day"), Kind.RATE_LIMITED),
    Row(OPENROUTER, 502, router(502, "Provider returned error", raw="boom"), Kind.SERVER),
    Row(OPENROUTER, 503, router(503, "No provider meets your routing requirements"), Kind.SERVER),
    Row(OPENROUTER, 200, router(429, "Provider returned error", raw="m is rate-limited upstream"), Kind.RATE_LIMITED),
    *(
        Row(OPENROUTER_TYPES, status, router(status, "…", error_type=kind), expected)
        for status, kind, expected in (
            (400, "context_length_exceeded", Kind.BAD_REQUEST),
            (400, "max_tokens_exceeded", Kind.BAD_REQUEST),
            (400, "token_limit_exceeded", Kind.BAD_REQUEST),
            (400, "string_too_long", Kind.BAD_REQUEST),
            (401, "authentication", Kind.CREDENTIALS),
            (403, "permission_denied", Kind.CREDENTIALS),
            (402, "payment_required", Kind.CREDIT),
            (429, "rate_limit_exceeded", Kind.RATE_LIMITED),
            (503, "provider_overloaded", Kind.RATE_LIMITED),
            (502, "provider_unavailable", Kind.SERVER),
            (400, "invalid_request", Kind.BAD_REQUEST),
            (400, "invalid_prompt", Kind.BAD_REQUEST),
            (404, "not_found", Kind.NOT_FOUND),
            (412, "precondition_failed", Kind.BAD_REQUEST),
            (413, "payload_too_large", Kind.BAD_REQUEST),
            (422, "unprocessable", Kind.BAD_REQUEST),
            (403, "content_policy_violation", Kind.CONTENT_FILTER),
            (403, "refusal", Kind.CONTENT_FILTER),
            (400, "invalid_image", Kind.BAD_REQUEST),
            (404, "image_not_found", Kind.BAD_REQUEST),
            (502, "image_download_failed", Kind.BAD_REQUEST),
            (500, "server", Kind.SERVER),
            (504, "timeout", Kind.SERVER),
            (500, "unmapped", Kind.SERVER),
        )
    ),
    Row(VLLM, 400, flat(400, "BadRequestError", "This model's maximum context length is 8 tokens."), Kind.BAD_REQUEST),
    Row(VLLM, 400, error("top_p must be in (0, 1]", "BadRequestError", 400, "top_p"), Kind.BAD_REQUEST),
    Row(VLLM, 404, flat(404, "NotFoundError", "The model `m` does not exist."), Kind.NOT_FOUND),
    Row(VLLM, 401, {"error": "Unauthorized"}, Kind.CREDENTIALS),
    Row(VLLM, 500, error("EngineCore encountered an issue.", "InternalServerError", 500), Kind.SERVER),
    Row(VLLM, 200, error("EngineCore encountered an issue.", "InternalServerError", 500), Kind.SERVER),
    Row(VLLM, 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, Kind.BAD_REQUEST),
    Row(SGLANG, 400, flat(400, "BadRequestError", "The input exceeds the maximum allowed length"), Kind.BAD_REQUEST),
    Row(SGLANG, 503, flat(503, "ServiceUnavailable", "The request queue is full."), Kind.RATE_LIMITED),
    Row(SGLANG, 200, error("The request queue is full.", "server_error", 503), Kind.RATE_LIMITED),
    Row(SGLANG, 500, flat(500, "InternalServerError", "…"), Kind.SERVER),
    Row(LLAMA, 400, error("…", INVALID, 400), Kind.BAD_REQUEST),
    Row(LLAMA, 401, error("Invalid API Key", "authentication_error", 401), Kind.CREDENTIALS),
    Row(LLAMA, 403, error("…", "permission_error", 403), Kind.CREDENTIALS),
    Row(LLAMA, 404, error("File Not Found", "not_found_error", 404), Kind.NOT_FOUND),
    Row(LLAMA, 500, error("…", "server_error", 500), Kind.SERVER),
    Row(LLAMA, 501, error("This server does not support it.", "not_supported_error", 501), Kind.BAD_REQUEST),
    Row(LLAMA, 503, error("Loading model", "unavailable_error", 503), Kind.SERVER),
    Row(
        LLAMA,
        400,
        error("the request exceeds the available context size", "exceed_context_size_error", 400),
        Kind.BAD_REQUEST,
    ),
    Row(OLLAMA, 404, error('model "m" not found, try pulling it first', "not_found_error"), Kind.NOT_FOUND),
    Row(OLLAMA, 404, error('model "m" not found, try pulling it first', "api_error"), Kind.NOT_FOUND),
    Row(OLLAMA, 400, error("[] is too short - 'messages'", INVALID), Kind.BAD_REQUEST),
    Row(OLLAMA, 500, error("llama runner process has terminated", "api_error"), Kind.SERVER),
    Row(
        OLLAMA,
        503,
        error("server busy, please try again.  maximum pending requests exceeded", "api_error"),
        Kind.RATE_LIMITED,
    ),
    Row(LITELLM, 400, error("No connected db.", "no_db_connection", "400"), Kind.CREDENTIALS),
    *(
        Row(LITELLM, status, error("…", kind, str(status)), expected)
        for status, kind, expected in (
            (400, "budget_exceeded", Kind.CREDIT),
            (503, "no_db_connection", Kind.SERVER),
            (401, "token_not_found_in_db", Kind.CREDENTIALS),
            (401, "key_model_access_denied", Kind.CREDENTIALS),
            (401, "team_model_access_denied", Kind.CREDENTIALS),
            (401, "user_model_access_denied", Kind.CREDENTIALS),
            (401, "org_model_access_denied", Kind.CREDENTIALS),
            (400, "expired_key", Kind.CREDENTIALS),
            (401, "auth_error", Kind.CREDENTIALS),
            (500, "internal_server_error", Kind.SERVER),
            (400, "bad_request_error", Kind.BAD_REQUEST),
            (404, "not_found_error", Kind.NOT_FOUND),
            (400, "validation_error", Kind.BAD_REQUEST),
            (429, "throttling_error", Kind.RATE_LIMITED),
        )
    ),
    Row(
        LITELLM,
        429,
        error("No deployments available for selected model, Try again in 5 seconds", None, "429"),
        Kind.RATE_LIMITED,
    ),
    Row(LITELLM, 429, error("Crossed TPM / RPM / Max Parallel Request Limit", None, "429"), Kind.RATE_LIMITED),
    Row(LITELLM, 400, error("Invalid model name passed in model=m", INVALID, "400"), Kind.NOT_FOUND),
    Row(LITELLM, 400, error("litellm.ContentPolicyViolationError: …", None, "400"), Kind.CONTENT_FILTER),
    Row(LITELLM, 500, error("litellm.RateLimitError: …", None, "500"), Kind.RATE_LIMITED),
    Row(DEEPSEEK, 400, error("Invalid format", INVALID, INVALID), Kind.BAD_REQUEST),
    Row(DEEPSEEK, 400, error("Model Not Exist", INVALID, INVALID), Kind.NOT_FOUND),
    Row(DEEPSEEK, 400, error("Content Exists Risk", INVALID, INVALID), Kind.CONTENT_FILTER),
    Row(DEEPSEEK, 401, error("Authentication Fails", "authentication_error", INVALID), Kind.CREDENTIALS),
    Row(DEEPSEEK, 402, error("Insufficient Balance", "unknown_error", INVALID), Kind.CREDIT),
    Row(DEEPSEEK, 422, error("Invalid parameters", INVALID, INVALID), Kind.BAD_REQUEST),
    Row(DEEPSEEK, 429, error("Rate limit reached", INVALID, INVALID), Kind.RATE_LIMITED),
    Row(DEEPSEEK, 500, error("Server error"), Kind.SERVER),
    Row(DEEPSEEK, 503, error("Server overloaded"), Kind.SERVER),
    Row(GROQ, 400, error("…", INVALID), Kind.BAD_REQUEST),
    Row(GROQ, 401, error("Invalid API Key", INVALID, "invalid_api_key"), Kind.CREDENTIALS),
    Row(GROQ, 403, error("…", INVALID), Kind.CREDENTIALS),
    Row(GROQ, 404, error("The model `m` does not exist", INVALID, "model_not_found"), Kind.NOT_FOUND),
    Row(GROQ, 400, error("The model `m` has been decommissioned", INVALID, "model_decommissioned"), Kind.NOT_FOUND),
    Row(
        GROQ,
        413,
        error("Request too large for m: Limit 6000, Requested 12,000", "tokens", "rate_limit_exceeded"),
        Kind.BAD_REQUEST,
    ),
    Row(GROQ, 422, error("…", INVALID), Kind.BAD_REQUEST),
    Row(GROQ, 400, error("Failed to generate JSON", INVALID, "json_validate_failed"), Kind.MALFORMED),
    Row(GROQ, 400, error("Failed to call a function", INVALID, "tool_use_failed"), Kind.MALFORMED),
    Row(
        GROQ,
        429,
        error("Rate limit reached: Limit 6000, Used 5800, Requested 500", "tokens", "rate_limit_exceeded"),
        Kind.RATE_LIMITED,
    ),
    Row(GROQ, 498, error("…", None, "capacity_exceeded"), Kind.RATE_LIMITED),
    Row(GROQ, 498, {}, Kind.RATE_LIMITED),
    Row(GROQ, 499, {}, Kind.SERVER),
    Row(GROQ, 503, error("…", "internal_server_error"), Kind.SERVER),
    Row(TOGETHER, 400, error("…", INVALID), Kind.BAD_REQUEST),
    Row(TOGETHER, 401, error("Invalid API key provided", INVALID, "invalid_api_key"), Kind.CREDENTIALS),
    Row(TOGETHER, 402, error("Credit limit exceeded", "credit_limit"), Kind.CREDIT),
    Row(TOGETHER, 429, error("Request was rejected due to request rate limiting.", "credit_limit"), Kind.RATE_LIMITED),
    Row(TOGETHER, 429, error("You have reached the limit of 600 RPM", "credit_limit"), Kind.RATE_LIMITED),
    Row(TOGETHER, 403, error("`inputs` tokens + `max_new_tokens` must be <= 4097", INVALID), Kind.BAD_REQUEST),
    Row(TOGETHER, 404, error("…", INVALID, "model_not_available"), Kind.NOT_FOUND),
    Row(TOGETHER, 429, error("…", "rate_limit", "dynamic_request_limited"), Kind.RATE_LIMITED),
    Row(TOGETHER, 503, error("Engine overloaded", "service_unavailable"), Kind.SERVER),
    Row(ONE_API, 503, error("当前分组 default 下对于模型 m 无可用渠道", "one_api_error"), Kind.NOT_FOUND),
    Row(ONE_API, 401, error("该 token 额度已用尽", "one_api_error"), Kind.CREDIT),
    Row(ONE_API, 401, error("该 token 已过期", "one_api_error"), Kind.CREDENTIALS),
    Row(ONE_API, 500, error("无效的 token", "one_api_error"), Kind.CREDENTIALS),
    Row(ONE_API, 403, error("用户额度不足", "one_api_error"), Kind.CREDIT),
    Row(
        ONE_API, 500, error("Your credit balance is too low", "one_api_error", "bad_response_status_code"), Kind.CREDIT
    ),
    Row(ONE_API, 429, error("当前分组上游负载已饱和，请稍后再试", "one_api_error"), Kind.RATE_LIMITED),
    Row(ONE_API, 500, error("账户余额不足", "one_api_error"), Kind.CREDIT),
    Row(ONE_API, 403, error("已欠费", "one_api_error"), Kind.CREDIT),
    *(
        Row(NEW_API, status, error("…", "new_api_error", code), expected)
        for status, code, expected in (
            (500, "sensitive_words_detected", Kind.CONTENT_FILTER),
            (400, "violation_fee.grok.csam", Kind.CONTENT_FILTER),
            (400, "prompt_blocked", Kind.CONTENT_FILTER),
            (500, "do_request_failed", Kind.SERVER),
            (500, "get_channel_failed", Kind.SERVER),
            (500, "channel:no_available_key", Kind.SERVER),
            (401, "channel:invalid_key", Kind.SERVER),
            (500, "channel:response_time_exceeded", Kind.SERVER),
            (500, "convert_request_failed", Kind.BAD_REQUEST),
            (400, "bad_request_body", Kind.BAD_REQUEST),
            (400, "invalid_request", Kind.BAD_REQUEST),
            (403, "access_denied", Kind.CREDENTIALS),
            (500, "read_response_body_failed", Kind.SERVER),
            (502, "bad_response_status_code", Kind.SERVER),
            (429, "bad_response_status_code", Kind.RATE_LIMITED),
            (500, "bad_response_body", Kind.SERVER),
            (500, "empty_response", Kind.SERVER),
            (500, "aws_invoke_error", Kind.SERVER),
            (503, "model_not_found", Kind.NOT_FOUND),
            (500, "model_price_error", Kind.NOT_FOUND),
            (500, "query_data_error", Kind.SERVER),
            (403, "insufficient_user_quota", Kind.CREDIT),
            (403, "pre_consume_token_quota_failed", Kind.CREDIT),
            (403, "entitlement_required", Kind.CREDIT),
            (403, "entitlement_daily_limit_exceeded", Kind.CREDIT),
            (429, "token_concurrency_limit_reached", Kind.RATE_LIMITED),
        )
    ),
    Row(NEW_API, 401, error("无效的令牌", "new_api_error"), Kind.CREDENTIALS),
    Row(NEW_API, 401, error("未提供令牌", "new_api_error"), Kind.CREDENTIALS),
    Row(NEW_API, 401, error("该令牌已过期", "new_api_error"), Kind.CREDENTIALS),
    Row(NEW_API, 401, error("该令牌额度已用尽 TokenStatusExhausted[sk-a***b]", "new_api_error"), Kind.CREDIT),
    Row(NEW_API, 403, error("该令牌无权访问模型 m", "new_api_error"), Kind.NOT_FOUND),
    Row(NEW_API, 503, error("分组 default 下模型 m 无可用渠道（distributor）", "new_api_error"), Kind.NOT_FOUND),
    Row(NEW_API, 429, error("您已达到请求数限制：1分钟内最多请求10次", "new_api_error"), Kind.RATE_LIMITED),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.source.partition(',')[0]}-{row.status}-{row.kind}")
def test_documented_error(row: Row) -> None:
    """A documented error is of the kind that says what to do about it, in whatever HTTP status it rides."""
    assert classify(row.status, read_error(row.body)).kind is row.kind, row.source


SPECIFIC = [row for row in ROWS if row.kind in (Kind.CREDIT, Kind.CONTENT_FILTER) and row.status != 402]


@pytest.mark.parametrize("row", SPECIFIC, ids=lambda row: f"{row.source.partition(',')[0]}-{row.status}-{row.kind}")
@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
def test_a_permanent_fault_is_seen_under_any_status(row: Row, status: int) -> None:
    """Relays pass spent credit and refusals on as 401, 403, 429 or 500: the body says what it is."""
    assert classify(status, read_error(row.body)).kind is row.kind, row.source


def test_an_address_in_a_message_is_no_word_about_time() -> None:
    """Spent credit that points to the pages about rate limits stays spent credit."""
    said = error("No budget is left: see https://example.test/rate-limits", None, "insufficient_quota")
    assert classify(429, read_error(said)).kind is Kind.CREDIT


AT_ONCE = [
    (error("Max parallel request limit reached"), ""),
    (error("Too many concurrent requests for this model", "rate_limit_error"), ""),
    (error("Retry after 10 seconds.", "rate_limit_error", "concurrent_request_limit_exceeded"), ""),
    (error("You exceeded your current threshold of concurrent requests"), ""),
    (error("Number of concurrent connections has exceeded your rate limit"), ""),
    (error("rate limit reached: max organization concurrency: 3, please try again after 1 seconds"), ""),
    ({}, "max_parallel_requests"),
]


@pytest.mark.parametrize(("body", "limit_type"), AT_ONCE)
def test_a_limit_of_what_is_in_flight_is_told_from_one_of_time(body: dict[str, Any], limit_type: str) -> None:
    """Words and LiteLLM's header say which it is; any other rate limit is one of time."""
    assert classify(429, read_error(body), limit_type=limit_type).at_once
    assert not classify(429, read_error(error("Rate limit reached for requests")), limit_type="rpm").at_once


GOOGLE = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}
QUOTAS = [
    (
        error("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"),
        "day",
    ),
    (
        error("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200. Please try again in 7m12s."),
        "day",
    ),
    (error("Rate limit reached for m on tokens per day (TPD): Limit 500000, Used 499999"), "day"),
    (error("You have exceeded the daily request quota", "rate_limit_error"), "day"),
    (error("Rate limit: too many requests, monthly quota"), "month"),
    (
        {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Please retry in 5s.", "details": [GOOGLE]}},
        "day",
    ),
    (error("Rate limit reached for m on tokens per min (TPM): Limit 500000"), None),
    (error("You may send 10 requests per minute and 1000 per day: too many requests"), None),
    (error("Too many requests"), None),
]


@pytest.mark.parametrize(("body", "quota"), QUOTAS)
def test_a_quota_of_a_day_is_told_from_a_limit_of_a_minute(body: dict[str, Any], quota: str | None) -> None:
    """Words and Google's `quotaId` say so; where both are named, nobody knows which one was hit."""
    fault = classify(429, read_error(body), body=json.dumps(body))
    assert (fault.kind, fault.quota) == (Kind.RATE_LIMITED, quota)


OF_MODEL = [
    (404, error("The model `m` does not exist", INVALID, "model_not_found"), Kind.NOT_FOUND, True),
    (403, error("Project `p` does not have access to model `m`", INVALID, "model_not_found"), Kind.NOT_FOUND, True),
    (403, error("You do not have access to model m", INVALID), Kind.CREDENTIALS, True),
    (401, error("key not allowed to access model", None, "key_model_access_denied"), Kind.CREDENTIALS, True),
    (400, {"detail": "Unknown Model, please check the model code."}, Kind.NOT_FOUND, True),
    (400, error("model: claude-9 is not supported", INVALID), Kind.NOT_FOUND, True),
    (400, error("Unsupported model: m", INVALID), Kind.NOT_FOUND, True),
    (503, error("当前分组 default 下对于模型 m 无可用渠道", "new_api_error"), Kind.NOT_FOUND, True),
    (400, error("temperature is not supported by this model", INVALID), Kind.BAD_REQUEST, False),
    (400, error("This model is not supported with images", INVALID), Kind.BAD_REQUEST, False),
    (401, error("Incorrect API key provided: sk-x.", INVALID, "invalid_api_key"), Kind.CREDENTIALS, False),
    (404, error("Invalid URL (POST /v1/x)", INVALID), Kind.NOT_FOUND, False),
    (403, None, Kind.CREDENTIALS, False),
]


@pytest.mark.parametrize(("status", "body", "kind", "of_model"), OF_MODEL)
def test_a_refusal_of_a_model_is_told_from_that_of_a_key_or_a_parameter(
    status: int, body: Any, kind: Kind, of_model: bool
) -> None:
    """It is not there, or not for this key: by its code or its words."""
    fault = classify(status, read_error(body))
    assert (fault.kind, fault.of_model) == (kind, of_model)


def test_every_row_can_be_sent() -> None:
    """Bodies are JSON."""
    assert all(json.dumps(row.body) for row in ROWS)


PAGES = {
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>": "502 Bad Gateway",
    "<!DOCTYPE html><html><head><title>\n  example.com | 522: Connection timed out </title>": (
        "example.com | 522: Connection timed out"
    ),
    "<html><body><h1>503 Service\nUnavailable</h1>No server is available": "503 Service Unavailable",
    "<HTML><TITLE lang=en>Overloaded &amp; <b>sorry</b></TITLE>": "Overloaded & sorry",
    "<html>busy</html>": "<html>busy</html>",
    "upstream connect error": "upstream connect error",
}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 521, 522, 523, 524])
@pytest.mark.parametrize(("page", "title"), PAGES.items())
def test_a_page_is_a_server_fault_with_a_short_message(status: int, page: str, title: str) -> None:
    """An HTML page in the place of an answer is the server's fault; of it only the title is shown, the status once."""
    fault = classify(status, None, body=page + " " * 5000)
    assert (fault.kind, fault.message) == (Kind.SERVER, f"HTTP {status}: {title.removeprefix(f'{status} ')}")


def test_a_page_within_an_error_object() -> None:
    """A relay that wraps a page into its message is read the same way."""
    fault = classify(502, read_error(error("<html><title>504 Gateway Time-out</title><p>x", "upstream_error", 504)))
    assert fault.message == "HTTP 502: 504 Gateway Time-out"


@pytest.mark.parametrize("body", ["", " \n"])
def test_an_empty_429(body: str) -> None:
    """An empty 429 is a rate limit."""
    fault = classify(429, None, body=body)
    assert (fault.kind, fault.message, fault.retry_after_s) == (Kind.RATE_LIMITED, "HTTP 429", None)


WAITS = [
    (429, "Rate limit reached. Please try again in 1.2s. Visit", None, Kind.RATE_LIMITED, 1.2),
    (429, "Please retry after 7 seconds.", None, Kind.RATE_LIMITED, 7.0),
    (429, "Please try again in 6m0s.", 3.0, Kind.RATE_LIMITED, 3.0),
    (429, "Slow down", None, Kind.RATE_LIMITED, None),
    (503, "The server is busy", 4.0, Kind.RATE_LIMITED, 4.0),
    (503, "The server is busy", None, Kind.SERVER, None),
    (500, "Try again in 5 seconds", None, Kind.SERVER, None),
]


@pytest.mark.parametrize(("status", "message", "header", "kind", "wait"), WAITS)
def test_waits(status: int, message: str, header: float | None, kind: Kind, wait: float | None) -> None:
    """A rate limit's wait is read from its message where no header states one; a 503 with a wait is a rate limit."""
    fault = classify(
        status, read_error(error(message, "server_error" if status == 503 else None)), retry_after_s=header
    )
    assert (fault.kind, fault.retry_after_s) == (kind, wait)


def test_param_is_carried() -> None:
    """The parameter that the endpoint names goes with the fault."""
    assert classify(400, read_error(error("no", INVALID, "unsupported_value", "temperature"))).param == "temperature"
    assert classify(400, read_error(error("no"))).param is None


@pytest.mark.parametrize(
    "text",
    [
        "<title>" * 140_000,
        "<title" * 140_000,
        "<" * 1_000_000 + ">",
        "<title>a</title>" * 60_000,
        "<h1>" + "<" * 1_000_000,
        "Rate limit: Limit ,, Requested ,",
        "limit " + "9" * 5000 + ", requested " + "9" * 5000,
        "limit " + "1," * 50_000,
        "try again in " + "1s " * 30_000,
        "try again in " + "1" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_no_text_holds_the_run_up(text: str) -> None:
    """A message of a megabyte that is made to be hard to read is judged in one pass: what is read again from every place takes
    hours, and nothing else runs meanwhile.
    """
    assert classify(429, ErrorBody(text, "", "", ""), body=text).kind is Kind.RATE_LIMITED
    assert classify(500, None, body=text).status == 500
