"""What an endpoint says of its limits, in the headers of every answer (endpoint.md §5).

Sources: OpenAI and Azure "Rate limits", Groq "Rate limits" (x-ratelimit-limit|remaining|reset-requests|tokens), Mistral
(…-req-minute, …-tokens-minute), Cerebras "Rate limits" (…-requests-day, …-tokens-minute), Anthropic "Rate limits"
(anthropic-ratelimit-UNIT-limit|remaining|reset), OpenRouter "Limits" (x-ratelimit-limit|remaining|reset), Azure and GitHub
Models (x-ratelimit-renewalperiod-requests|tokens), LiteLLM litellm/proxy/hooks/parallel_request_limiter_v3.py
(x-ratelimit-SCOPE-limit|remaining-requests|tokens).
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from batchrun.records import StatedLimit
from batchrun.wire.faults.duration import duration_or_moment_s, number

_NAME = re.compile(
    r"(?:x-)?ratelimit-(?:([a-z0-9_]+)-)?(limit|remaining|reset)(?:-(requests|req|tokens|input-tokens|output-tokens))?"
    r"(?:-(second|minute|hour|day))?"
)
_PERIOD = re.compile(r"x-ratelimit-renewalperiod-(requests|tokens)")
_ANTHROPIC = re.compile(r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)")
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_UNITS = {"req": "requests", "input-tokens": "input_tokens", "output-tokens": "output_tokens"}


class Said(msgspec.Struct):
    """What headers say of one limit, as texts: None is a header that is not there. `unit` is empty where it has none."""

    scope: str
    unit: str
    window: str
    limit: str | None = None
    remaining: str | None = None
    reset: str | None = None
    period: str | None = None


def limits_in(headers: Mapping[str, str]) -> Iterable[Said]:
    """Every limit that the headers speak of."""
    found: dict[tuple[str, str, str], Said] = {}
    for name, value in headers.items():
        name = name.lower()
        if "ratelimit" not in name:
            continue
        if match := _NAME.fullmatch(name):
            scope, what, unit, window = match.groups(default="")
        elif match := _ANTHROPIC.fullmatch(name):
            unit, what = match.groups()
            scope = window = ""
        elif match := _PERIOD.fullmatch(name):
            scope, unit, what, window = "", match[1], "period", ""
        else:
            continue
        unit = _UNITS.get(unit, unit)
        said = found.setdefault((scope, unit, window), Said(scope, unit, window))
        setattr(said, what, value)
    return found.values()


def stated_limits(headers: Mapping[str, str], epoch: float) -> list[StatedLimit]:
    """The limits whose size and unit are stated. `epoch` is the present, seconds since 1970, UTC."""
    return [
        StatedLimit(
            said.unit,
            limit,
            rest(said.remaining),
            None if said.reset is None else duration_or_moment_s(said.reset, epoch),
            _WINDOWS.get(said.window) or number(said.period or "") or None,
            said.scope,
        )
        for said in limits_in(headers)
        if said.unit and said.limit is not None and (limit := number(said.limit))
    ]


def rest(text: str | None) -> float | None:
    """What remains. Some count on below zero."""
    if text is None:
        return None
    return 0.0 if text.strip().startswith("-") and number(text.strip()[1:]) is not None else number(text)
