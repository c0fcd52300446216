"""How long an endpoint asks to be left alone, in every form it says so (endpoint.md §5).

Sources: RFC 9110 §10.2.3 (Retry-After); OpenAI "Rate limits", Anthropic "Rate limits", Groq "Rate limits" and OpenRouter
"Limits" for their headers; openai-python src/openai/_base_client.py for retry-after-ms.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SAID = re.compile(
    r"(?:try again|retry|wait)(?: your request)?(?: in| after| for)?:? "
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?![a-z])[ ,]*)+)",
    re.IGNORECASE,
)
_LONG_NAMES = re.compile(r"(milli)?(second|sec|minute|min|hour|day)s?")
LONGEST_S = 3600.0
"""Past an hour the endpoint is asked again all the same: a limit of a day says so once more, and a header that names
years by mistake holds nobody for longer."""
LIMITING = frozenset({429, 503, 529})


def stated_wait_s(headers: Mapping[str, str], epoch: float, status: int = 0) -> float | None:
    """Seconds to wait as the headers say, or None. `epoch` is the present, seconds since 1970, UTC.

    Retry-After counts under every status. The time at which a limit is renewed counts where nothing remains of it; under
    a status that says a limit was hit, also where no header tells which: then the one that is renewed first.
    """
    value = headers.get("retry-after-ms")
    if value is not None and (seconds := _number(value)) is not None:
        return _clipped(seconds / 1000)
    value = headers.get("retry-after")
    if value is not None and (wait := _moment_or_duration(value, epoch)) is not None:
        return wait
    spent: list[float] = []
    others: list[float] = []
    for remaining, reset in _limits(headers):
        wait = _moment_or_duration(reset, epoch)
        if wait is not None:
            (spent if _number(remaining) == 0 else others).append(wait)
    if spent:
        return max(spent)
    return min(others, default=None) if status in LIMITING else None


def wait_in_text(text: str) -> float | None:
    """The wait that a message states where no header does: "Please try again in 1.2s", "retry after 7 seconds"."""
    found = _SAID.search(text)
    if found is None:
        return None
    short = _LONG_NAMES.sub(lambda name: "ms" if name[1] else name[2][0], found[1].lower())
    return _clipped(_duration(short.replace(",", " ")) or 0.0)


def _limits(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What remains of each limit, and when it is renewed, as texts; an empty text where a header is missing."""
    for kind in ("-requests", "-tokens", ""):
        for prefix in ("x-ratelimit", "ratelimit"):
            yield headers.get(f"{prefix}-remaining{kind}", ""), headers.get(f"{prefix}-reset{kind}", "")
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        name = f"anthropic-ratelimit-{kind}"
        yield headers.get(f"{name}-remaining", ""), headers.get(f"{name}-reset", "")


def _moment_or_duration(text: str, epoch: float) -> float | None:
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number > 1e12:  # epoch milliseconds
            return _clipped(number / 1000 - epoch)
        if number > 1e9:  # epoch seconds
            return _clipped(number - epoch)
        return _clipped(number)
    duration = _duration(text)
    if duration is not None:
        return _clipped(duration)
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return _clipped(moment.timestamp() - epoch)
        except (ValueError, OverflowError):
            continue
    return None


def _duration(text: str) -> float | None:
    """`6m0s`, `12ms`, `1h 2m` in seconds."""
    if not text.strip() or _DURATION.sub("", text).strip():
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(text))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and value >= 0 else None


def _clipped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_S)
