"""Dates, times and durations as text, by integer arithmetic alone: any year, any unit, the same on every machine.

The form is that of Python's `str(datetime)`: `2024-05-01 12:00:00`, `.123456` or `.123456789` only where there is a
fraction, `+02:00` only where the column has a time zone. Years before 1 and after 9999 follow ISO 8601: `-0043-03-15`.
"""

import datetime
import re
import zoneinfo

_DAY_S = 86_400
_EPOCH = 719_163  # the proleptic Gregorian ordinal of 1970-01-01
_FIXED = re.compile(r"([+-])(\d\d):?(\d\d)")
_UTC = ("UTC", "Z", "GMT", "Etc/UTC")


class UnknownZoneError(ValueError):
    """A time zone that this machine has no data for."""


def date_text(days: int) -> str:
    """A day, counted from 1970-01-01."""
    if 1 <= days + _EPOCH <= datetime.date.max.toordinal():
        return datetime.date.fromordinal(days + _EPOCH).isoformat()
    year, month, day = _civil(days)
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04d}-{month:02d}-{day:02d}"


def time_text(value: int, per_s: int) -> str:
    """A time of day, in units of which `per_s` are a second."""
    seconds, rest = divmod(value, per_s)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(rest, per_s)}"


def timestamp_text(value: int, per_s: int, zone: str | None) -> str:
    """An instant, counted from 1970-01-01 in units of which `per_s` are a second. Raises UnknownZoneError."""
    seconds = value // per_s
    offset = 0 if zone is None else _offset_s(seconds, zone)
    days, rest = divmod(value + offset * per_s, _DAY_S * per_s)
    text = f"{date_text(days)} {time_text(rest, per_s)}"
    if zone is None:
        return text
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // 60
    return f"{text}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def duration_text(value: int, per_s: int) -> str:
    """A length of time, as `str(timedelta)` writes it: `-1 day, 23:59:59.500000`."""
    days, rest = divmod(value, _DAY_S * per_s)
    seconds, fraction = divmod(rest, per_s)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(fraction, per_s)}"
    return f"{days} day{'' if abs(days) == 1 else 's'}, {text}" if days else text


def _fraction(value: int, per_s: int) -> str:
    nanoseconds = value * (1_000_000_000 // per_s)
    if not nanoseconds:
        return ""
    return f".{nanoseconds:09d}" if nanoseconds % 1000 else f".{nanoseconds // 1000:06d}"


def _offset_s(seconds: int, zone: str) -> int:
    """What a zone's clock shows more than UTC at an instant; 0 outside of the years that zones are known for."""
    if zone in _UTC:
        return 0
    fixed = _FIXED.fullmatch(zone)
    if fixed is not None:
        amount = int(fixed[2]) * 3600 + int(fixed[3]) * 60
        return -amount if fixed[1] == "-" else amount
    try:
        known = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZoneError(f"the time zone {zone!r} is not known on this machine; pip install tzdata") from None
    try:
        offset = datetime.datetime.fromtimestamp(seconds, known).utcoffset()
    except (ValueError, OverflowError, OSError):
        return 0
    return 0 if offset is None else int(offset.total_seconds())


def _civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) in the proleptic Gregorian calendar, year 0 being 1 BC. It repeats every 400 years."""
    cycles, rest = divmod(days + _EPOCH - 1, 146_097)
    day = datetime.date.fromordinal(rest + 1)
    return day.year + cycles * 400, day.month, day.day
