"""Endpoints of rough limits and outages, as functions and transports of a virtual loop (tests/virtual.py).

Each is of a kind that people have reported (endpoint.md §7). `test_hours.py` says what is right.
"""

import functools
from collections.abc import Callable
from typing import Any

import anyio
import httpx

from virtual import Endpoint, Said


def refusal(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> Said:
    """An error of OpenAI's shape, a tenth of a second later."""
    return Said(httpx.Response(status, json={"error": {"message": message, **more}}, headers=headers), 0.1)


class PerSecond:
    """So many a second and no more at once; above that, what `refuse` says. Good answers carry `headers` too."""

    def __init__(self, rate: float, refuse: Said, answer_s: float = 0.5) -> None:
        self.rate, self.refuse, self.answer_s = rate, refuse, answer_s
        self.level, self.then = rate, 0.0

    def __call__(self, _body: dict[str, Any], at: float) -> Said:
        self.level = min(self.rate, self.level + (at - self.then) * self.rate)
        self.then = at
        if self.level < 1:
            return self.refuse
        self.level -= 1
        return Said("yes", self.answer_s)


class AtOnce(httpx.AsyncBaseTransport):
    """So many in flight and no more; above that, what `refuse` says."""

    def __init__(self, most: int, refuse: Callable[[], httpx.Response], answer_s: float = 0.5) -> None:
        self.most, self.refuse, self.answer_s = most, refuse, answer_s
        self.in_flight = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.in_flight >= self.most:
            await anyio.sleep(0.02)
            return self.refuse()
        self.in_flight += 1
        try:
            await anyio.sleep(self.answer_s)
        finally:
            self.in_flight -= 1
        return good()


class OneStream(httpx.AsyncBaseTransport):
    """Breaks off what it was answering when another request comes."""

    def __init__(self) -> None:
        self.last = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.last += 1
        mine = self.last
        for _ in range(10):
            await anyio.sleep(0.05)
            if self.last != mine:
                raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        return good()


class Poisoned(httpx.AsyncBaseTransport):
    """Row 50 kills the server: whoever is in flight is cut off, and nobody is let in for three seconds."""

    def __init__(self) -> None:
        self.deaths, self.down_until = 0, 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if anyio.current_time() < self.down_until:
            raise httpx.ConnectError("connection refused")
        deaths = self.deaths
        await anyio.sleep(0.1)
        if b'"50"' in request.content and self.deaths == deaths:
            self.deaths += 1
            self.down_until = anyio.current_time() + 3
        await anyio.sleep(0.2)
        if self.deaths != deaths:
            raise httpx.ReadError("connection reset by peer")
        return good()


def good() -> httpx.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return httpx.Response(200, json={"id": "c", "model": "m", "choices": [choice], "usage": usage})


def window(begin: float, end: float, said: Said | Exception | int, answer_s: float = 0.2) -> Endpoint:
    """Good answers, but for some seconds."""
    return lambda _body, at: said if begin <= at < end else Said("yes", answer_s)


def parallel() -> httpx.Response:
    """LiteLLM's refusal of a fifth request at once: a minute is what its counter takes, not what a place takes."""
    error = {"message": "Max parallel request limit reached", "type": "None", "param": "None", "code": "429"}
    headers = {"retry-after": "60", "rate_limit_type": "max_parallel_requests"}
    return httpx.Response(429, json={"error": error}, headers=headers)


def by_the_day(given: int) -> Endpoint:
    """So many answers a day, which ends in ten minutes. The refusal tells to come back in five seconds."""
    left = {False: given, True: given}
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": str(given)}
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "5s"},
    ]
    message = "You exceeded your current quota, please check your plan and billing details.\nPlease retry in 5.2s."
    error = [{"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}]

    def endpoint(_body: dict[str, Any], at: float) -> Said:
        day = at > 600
        if left[day] == 0:
            return Said(httpx.Response(429, json=error), 0.1)
        left[day] -= 1
        return Said("yes", 0.5)

    return endpoint


def after_hours(hours: float) -> Endpoint:
    """Nothing for some hours, which a refusal says in words (OpenAI's requests of a day) and gets wrong."""
    message = (
        "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 9h."
    )
    refused = functools.partial(refusal, 429, message, code="rate_limit_exceeded")
    return lambda _body, at: refused() if at < 3600 * hours else Said("yes", 0.5)


def evenly_by_the_day(every_s: float) -> Endpoint:
    """A quota of a day that is spent, and renewed with one answer every few seconds (Groq's requests of a day)."""
    last = -every_s

    def endpoint(_body: dict[str, Any], at: float) -> Said:
        nonlocal last
        if at - last < every_s:
            wait = f"{every_s - (at - last):.2f}"
            said = (
                f"Rate limit reached on requests per day (RPD): Limit 14400, Used 14400. Please try again in {wait}s."
            )
            return refusal(429, said, {"retry-after": wait})
        last = at
        return Said("yes", 0.5)

    return endpoint


ZERO = {"retry-after": "0", "x-ratelimit-reset-requests": "0"}
MINUS = {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}
PAST = {"retry-after": "Wed, 01 Jan 2025 00:00:00 GMT"}
TOGETHER = "Request was rejected due to request rate limiting. Your rate limits are 600 RPM (10 QPS)."
STUCK = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "60s",
}
DAY = "Requests have exceeded the rate limit of your pricing tier. Please retry after 86400 seconds."
SOON = {"Retry-After": "1", "x-should-retry": "false"}
