"""Durations and moments as headers write them: `7`, `6m0s`, `12ms`, an HTTP date, RFC 3339, epoch seconds or ms."""

import functools
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
LONGEST_S = 32 * 86400.0
"""A month's quota is the longest that anybody means; a header that names years by mistake says no more than that."""


def present(headers: Mapping[str, str], own: float) -> float:
    """Seconds since 1970, UTC, by the clock of the endpoint where its `Date` says (RFC 9110 §6.6.1), else `own`: a moment
    that it names is one of its own clock, which may be an hour off.
    """
    stated = headers.get("date")
    found = None if stated is None else _moment(stated)
    return own if found is None else found


def duration_or_moment_s(text: str, epoch: float) -> float | None:
    """Seconds from now, from 0 to a month; None where the text is neither. `epoch` is now, seconds since 1970, UTC."""
    text = text.strip()
    value = number(text)
    if value is not None:
        if value > 1e12:  # epoch milliseconds
            return clipped(value / 1000 - epoch)
        if value > 1e9:  # epoch seconds
            return clipped(value - epoch)
        return clipped(value)
    seconds = duration_s(text)
    if seconds is not None:
        return clipped(seconds)
    moment = _moment(text)
    return None if moment is None else clipped(moment - epoch)


def duration_s(text: str) -> float | None:
    """`6m0s`, `12ms`, `1h 2m` in seconds."""
    if not text.strip() or _DURATION.sub("", text).strip():
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(text))


@functools.lru_cache(maxsize=16)
def _moment(text: str) -> float | None:
    """An RFC 3339 or HTTP date in seconds since 1970."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return moment.timestamp()
        except (ValueError, OverflowError):
            continue
    return None


def number(text: str) -> float | None:
    """A finite number that is not below 0; None for every other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def clipped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_S)
