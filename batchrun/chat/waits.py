"""How long an endpoint asks to be left alone, in every form it says so (endpoint.md §5)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LONGEST_S = 86400.0


def stated_wait_s(headers: Mapping[str, str], epoch: float) -> float | None:
    """Seconds to wait as the headers say, or None. `epoch` is the present, seconds since 1970, UTC."""
    value = headers.get("retry-after-ms")
    if value is not None and (seconds := _number(value)) is not None:
        return _clipped(seconds / 1000)
    value = headers.get("retry-after")
    if value is not None and (wait := _moment_or_duration(value, epoch)) is not None:
        return wait
    resets: list[float] = []
    for kind in ("requests", "tokens"):
        if _number(headers.get(f"x-ratelimit-remaining-{kind}", "")) == 0:
            wait = _moment_or_duration(headers.get(f"x-ratelimit-reset-{kind}", ""), epoch)
            resets += [] if wait is None else [wait]
        if _number(headers.get(f"anthropic-ratelimit-{kind}-remaining", "")) == 0:
            wait = _moment_or_duration(headers.get(f"anthropic-ratelimit-{kind}-reset", ""), epoch)
            resets += [] if wait is None else [wait]
    return max(resets, default=None)


def _moment_or_duration(text: str, epoch: float) -> float | None:
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number > 1e12:  # epoch milliseconds
            return _clipped(number / 1000 - epoch)
        if number > 1e9:  # epoch seconds
            return _clipped(number - epoch)
        return _clipped(number)
    if text and _DURATION.sub("", text) == "":
        return _clipped(sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(text)))
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
        except ValueError:
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _clipped(moment.timestamp() - epoch)
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and value >= 0 else None


def _clipped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_S)
