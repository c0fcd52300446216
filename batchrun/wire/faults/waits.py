"""How long an endpoint asks to be left alone, in every form it says so (endpoint.md §5).

Sources: RFC 9110 §10.2.3 (Retry-After); OpenAI "Rate limits", Anthropic "Rate limits", Groq "Rate limits" and OpenRouter
"Limits" for their headers; openai-python src/openai/_base_client.py for retry-after-ms.
"""

import re
from collections.abc import Mapping
from typing import Any

from batchrun.wire.faults.duration import clipped, duration_or_moment_s, duration_s, number
from batchrun.wire.faults.quota import limits_in, rest

_SAID = re.compile(
    r"(?:try again|retry|wait)(?: your request)?(?: in| after| for)?:? "
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?![a-z])[ ,]*)+)",
    re.IGNORECASE,
)
_DELAY = re.compile(r'"retryDelay"\s*:\s*"([^"]{1,40})"')
_LONG_NAMES = re.compile(r"(milli)?(second|sec|minute|min|hour|day)s?")
LIMITING = frozenset({429, 503, 529})


def stated_wait_s(headers: Mapping[str, str], epoch: float, status: int = 0) -> float | None:
    """Seconds to wait as the headers say, or None. `epoch` is the present, seconds since 1970, UTC.

    Retry-After counts under every status. The time at which a limit is renewed counts where nothing remains of it; under
    a status that says a limit was hit, also where no header tells which: then the one that is renewed first.
    """
    value = headers.get("retry-after-ms")
    if value is not None and (seconds := number(value)) is not None:
        return clipped(seconds / 1000)
    value = headers.get("retry-after")
    if value is not None and (wait := duration_or_moment_s(value, epoch)) is not None:
        return wait
    spent: list[float] = []
    others: list[float] = []
    for limit in limits_in(headers):
        wait = None if limit.reset is None else duration_or_moment_s(limit.reset, epoch)
        if wait is not None:
            (spent if rest(limit.remaining) == 0 else others).append(wait)
    if spent:
        return max(spent)
    return min(others, default=None) if status in LIMITING else None


def headers_within(body: Any) -> dict[str, str]:
    """The headers that OpenRouter writes into `error.metadata.headers` of a decoded body, by their lower-case names."""
    error = body.get("error") if isinstance(body, dict) else None
    metadata = error.get("metadata") if isinstance(error, dict) else None
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(headers, dict):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items() if isinstance(value, str | int | float)}


def wait_in_text(text: str) -> float | None:
    """The wait that a message or a body states where no header does: "Please try again in 1.2s", "retry after 7 seconds",
    Google's RetryInfo (google/rpc/error_details.proto).
    """
    delay = _DELAY.search(text)
    if delay is not None and (seconds := duration_s(delay[1])) is not None:
        return clipped(seconds)
    found = _SAID.search(text)
    if found is None:
        return None
    short = _LONG_NAMES.sub(lambda name: "ms" if name[1] else name[2][0], found[1].lower())
    return clipped(duration_s(short.replace(",", " ")) or 0.0)
