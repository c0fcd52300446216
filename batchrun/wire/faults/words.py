"""The words by which endpoints name their errors, and the kind that each one means: tables only, read by faults.py.

Sources of the words, each with its rows in tests/wire/test_fault_words.py: OpenAI "Error codes"; Anthropic "Errors";
Azure "Content filtering" and Google "Troubleshooting guide"; OpenRouter "Errors and Debugging"; Groq "API Error Codes and
Responses"; DeepSeek and Together "Error codes"; and the code of vllm, sglang, llama.cpp, ollama, litellm, one-api, new-api.
"""

import re

from batchrun.errors import Kind


def _kinds(table: dict[Kind, str]) -> dict[str, Kind]:
    return {word: kind for kind, words in table.items() for word in words.split()}


CODES: dict[str, Kind] = _kinds(
    {
        Kind.CREDENTIALS: """
            invalid_api_key invalid_authentication missing_api_key token_expired expired_key token_not_found_in_db
            account_deactivated organization_deactivated organization_restricted access_terminated invalid_organization
            mismatched_organization mismatched_project unsupported_country_region_territory ip_not_authorized
            key_model_access_denied team_model_access_denied user_model_access_denied org_model_access_denied
            access_denied authenticationtypedisabled
        """,
        Kind.CREDIT: """
            insufficient_quota insufficient_user_quota pre_consume_token_quota_failed insufficient_balance
            billing_hard_limit_reached billing_not_active billing_error credit_balance_exhausted budget_exceeded
            organization_usage_limit_exceeded organization_spend_limit_exceeded project_spend_limit_exceeded
            enforced_spend_limit_reached payment_required credit_limit blocked_api_access entitlement_required
            entitlement_inactive entitlement_total_limit_exceeded entitlement_daily_limit_exceeded
        """,
        Kind.NOT_FOUND: """
            model_not_found deploymentnotfound model_not_available model_decommissioned model_not_active
            model_terms_required model_price_error unknown_url invalid_route
        """,
        Kind.RATE_LIMITED: """
            rate_limit_exceeded rate_limit_error rate_limit_reached ratelimitreached ratelimitexceeded too_many_requests
            slow_down engine_overloaded server_is_overloaded provider_overloaded resource_exhausted throttling_error
            capacity_exceeded dynamic_request_limited dynamic_token_limited nocapacity
            token_concurrency_limit_reached token_concurrency_unavailable
        """,
        Kind.SERVER: """
            overloaded_error do_request_failed provider_unavailable engine_dead
            read_response_body_failed bad_response_body empty_response aws_invoke_error query_data_error
            update_data_error get_user_quota_failed
        """,
        Kind.MALFORMED: "json_validate_failed tool_use_failed",
        Kind.BAD_REQUEST: """
            context_length_exceeded exceed_context_size_error max_tokens_exceeded token_limit_exceeded
            string_above_max_length string_too_long array_above_max_length integer_above_max_value
            unsupported_parameter unsupported_value unknown_parameter missing_required_parameter invalid_value
            invalid_type request_too_large payload_too_large invalid_image image_too_large image_too_small
            unsupported_image_format image_not_found image_download_failed invalid_image_url not_supported_error
            convert_request_failed bad_request_body read_request_body_failed
        """,
        Kind.CONTENT_FILTER: """
            content_filter content_policy_violation responsibleaipolicyviolation moderation_blocked
            sensitive_words_detected prompt_blocked violation_fee.grok.csam refusal
        """,
    }
)
"""Codes and types that say all, whatever the message and status."""

VAGUE: dict[str, Kind] = _kinds(
    {
        Kind.CREDENTIALS: """
            authentication_error authentication auth_error permission_error permission_denied unauthenticated
            unauthorized authenticationerror permissiondeniederror
        """,
        Kind.NOT_FOUND: "not_found_error not_found notfounderror",
        Kind.SERVER: """
            no_db_connection
            server_error server api_error internal_server_error internal_error internalservererror internal unavailable
            service_unavailable service_unavailable_error serviceunavailableerror unavailable_error
            timeout_error timeout deadline_exceeded upstream_error bad_response get_channel_failed
        """,
        Kind.BAD_REQUEST: """
            badrequesterror bad_request_error validation_error invalid_argument failed_precondition
            unprocessable invalid_prompt
        """,
    }
)
"""Codes and types that are also put round errors of another sort: the message is asked before them."""

PHRASES: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        # Google says "exceeded your current quota" of a minute's limit too, and names the metric behind it
        (Kind.RATE_LIMITED, r"quota exceeded for (quota )?metric|please retry (in|after) [\d.]+ ?(s|m)"),
        (Kind.CREDIT, r"额度|額度|余额不足|餘額不足|欠费|欠費|充值后"),
        (
            Kind.CREDIT,
            r"insufficient.{0,12}(quota|balance|credit|fund)|(quota|credits?|balance) .{0,20}(exhausted|not enough)",
        ),
        (
            Kind.CREDIT,
            r"credit balance is too low|exceeded your current quota|requires more credits|can only afford",
        ),
        (
            Kind.CREDIT,
            r"spend(ing)? limit|billing hard limit|budget has been exceeded|specified api usage limits",
        ),
        (
            Kind.CONTENT_FILTER,
            r"content management policy|content policy|contentpolicyviolation|usage policy|sensitive words",
        ),
        (
            Kind.CONTENT_FILTER,
            r"(input|prompt|request) (was|has been) flagged|flagged as potentially|content exists risk",
        ),
        (Kind.CREDIT, r"out of credits|key limit exceeded"),
        (Kind.CONTENT_FILTER, r"敏感词|敏感詞|违规内容|违规|内容安全"),
        (
            Kind.CREDENTIALS,
            r"(incorrect|invalid|missing|not valid|wrong).{0,20}api.?key|api.?key.{0,12}(not valid|is invalid|expired)",
        ),
        # LiteLLM without a database says this of any key but its master key
        (Kind.CREDENTIALS, r"no connected db"),
        (Kind.CREDENTIALS, r"token (has )?expired|organization has been disabled|no cookie auth credentials"),
        (
            Kind.CREDENTIALS,
            r"无效的令牌|令牌.{0,8}(过期|无效|状态不可用)|未提供令牌|token.{0,4}(已过期|状态不可用)|无效的 token|用户已被封禁",
        ),
        (
            Kind.NOT_FOUND,
            r"model.{1,120}(does not exist|not found|not supported on)|model not exist|invalid model name|not a valid model",
        ),
        (
            Kind.NOT_FOUND,
            r"no available channel|no endpoints found for|无可用渠道|模型.{0,40}(不存在|未配置)|令牌无权访问模型",
        ),
        (
            Kind.NOT_FOUND,
            r"(unknown|unsupported|no such) model\b|\bmodel:? [`'\"]?[\w./:@-]+[`'\"]? is not (supported|allowed|served)\b",
        ),
        (Kind.BAD_REQUEST, r"maximum context length|context window|context size|prompt is too long|input token count"),
        (Kind.BAD_REQUEST, r"max_new_tokens|input is too long|exceeds the maximum (allowed )?(length|number of)"),
        (
            Kind.RATE_LIMITED,
            r"rate.?limit|too many requests|requests? queue is full|server busy|pending requests exceeded",
        ),
        (Kind.RATE_LIMITED, r"crossed tpm|max parallel request|no deployments available|concurrency limit reached"),
        (Kind.RATE_LIMITED, r"请求过于频繁|请求数限制|负载已饱和|load (is )?saturated"),
    )
)
"""Looked for in the lower-cased message, in this order."""

OF_MODEL = frozenset(
    _kinds(
        {
            Kind.NOT_FOUND: """
                model_not_found deploymentnotfound model_not_available model_decommissioned model_not_active
                model_terms_required model_price_error key_model_access_denied team_model_access_denied
                user_model_access_denied org_model_access_denied
            """,
        }
    )
)
"""Codes and types of a refusal that is about the model."""

OF_MODEL_PHRASE = re.compile(r"\bmodels?\b|模型|渠道|channel|deployment")
"""Words of such a refusal: what is not found, or not allowed, is then that."""

ABOUT_TIME = re.compile(
    r"rate.?limit|too many requests|slow down|per (second|minute)\b|\b([rt]pm|[rq]ps)\b|(try again|retry) (in|after) \d"
)
"""Words of a limit that time renews: a code or a type that sounds like credit means nothing beside them."""

QUOTAS = {
    "month": re.compile(r"per.?month|monthly|this month|/month"),
    "day": re.compile(r"per.?day\b|daily|/day|\b[rt]pd\b|\btoday\b|24.?hours|每日|每天"),
}
"""Words of a quota of a month or a day, in a message, a code, or the `quotaId` of Google's QuotaFailure."""

SHORT_LIMIT = re.compile(r"per.?(minute|second)|/min|\b([rt]pm|[rq]ps)\b")
"""Words of a limit of a minute or a second: beside those of a quota nobody knows which one was hit."""

AT_ONCE = re.compile(r"concurren(t|cy)|parallel.?requests?|simultaneous|并发|並發")
"""Words of a limit of what is in flight, in a message, a code, or LiteLLM's header `rate_limit_type`."""

STATUSES: dict[int, Kind] = {
    401: Kind.CREDENTIALS,
    402: Kind.CREDIT,
    403: Kind.CREDENTIALS,
    404: Kind.NOT_FOUND,
    405: Kind.NOT_FOUND,
    407: Kind.CREDENTIALS,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,
    410: Kind.NOT_FOUND,
    425: Kind.SERVER,
    429: Kind.RATE_LIMITED,
    498: Kind.RATE_LIMITED,  # Groq: the flex tier has no capacity
    499: Kind.SERVER,  # nginx, Groq, Ollama: somebody on the way hung up
    501: Kind.BAD_REQUEST,
    505: Kind.BAD_REQUEST,
    529: Kind.RATE_LIMITED,
}
"""What a status means where the body says nothing; else 3xx `not_found`, 4xx `bad_request`, the rest `server`."""

BLOCKED = re.compile(
    r"you have been blocked|request blocked\b.{0,200}cloudfront|the request is blocked|incapsula incident id"
    r"|cloudflare.{0,2000}\berror 10(0[6-9]|1[0-2]|20)\b|\berror 10(0[6-9]|1[0-2]|20)\b.{0,2000}cloudflare"
    r"|the requested url was rejected\. please consult with your administrator|sucuri website firewall|fortiguard"
    r"|access denied.{0,500}\breference.{0,4}(#|&#35;)\d|mod_security",
    re.DOTALL,
)
"""Firewalls' pages: Cloudflare's, CloudFront's, Azure Front Door's, Imperva's, F5's, Sucuri's, Fortinet's, Akamai's."""

BLOCKED_CODE = re.compile(r"error code: 10(0[6-9]|1[0-2]|20)")
"""The whole of what Cloudflare says to programs then; 1015 is a rate limit."""

CHALLENGE = re.compile(
    r"just a moment\.\.\.|attention required! \| cloudflare|checking (if the site connection is secure|your browser)"
    r"|verify(ing)? you are (a )?human|cf[-_]chl|challenge-platform|enable javascript and cookies|ddos-guard|captcha"
)
"""Pages by which Cloudflare and its like let browsers alone pass."""

WRONG_SCHEME = re.compile(
    r"plain http request was sent to https port|sent an http request to an https server|plain http to an ssl-enabled"
)
"""What nginx, Go and Apache say on a port of TLS to a request without."""

GAVE_UP = frozenset({408, 504, 520, 524, 598, 599})
"""Statuses of a gateway that waited for an answer no longer: it is made, and perhaps billed, all the same (endpoint.md §7)."""

TIMED_OUT = re.compile(
    r"^(?!.*connect).*\b(upstream|gateway|request|response|operation|backend|inference|generation|stream|read)\b"
    r".{0,40}\btime(d|s)?[ -]?out",
    re.DOTALL,
)
"""A gateway says so in words, under any status; where it could not connect, nothing was made."""

LIMIT_AND_REQUEST = re.compile(r"limit:? (\d[\d,]{0,30}),(?: used:? [\d,]{1,30},)? requested:? (\d[\d,]{0,30})")
"""OpenAI's and Groq's rate limit messages: the whole limit, and what this one request takes of it."""
