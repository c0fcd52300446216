"""What an answer says of its tokens, in the spellings of the providers and of the relays between them → Usage.

Whose spelling it is decides nothing; the arithmetic does. Sources: the API references of OpenAI (`prompt_tokens` include
what was cached; Responses: `input_tokens` likewise), Anthropic (`input_tokens` exclude what was read from a cache or
written to one), Google (`usageMetadata`), DeepSeek, Moonshot, Groq, OpenRouter, DeepInfra, xAI and Perplexity; endpoint.md §7.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from batchrun.records import TokenDetails, Usage

MOST_TOKENS = 2**40
_MOST_USD = 1e6
_TICKS = 10**10
"""xAI states costs in ticks, so many to the dollar."""
_COST = ("cost", "estimated_cost", "total_cost", "cost_usd")
_NONE = -1
_RARE = ("audio_prompt", "audio_completion", "tool")


def _slots(**names: str) -> dict[str, str]:
    """Spelling → what it counts."""
    return {name: slot for slot, spellings in names.items() for name in spellings.split()}


_LIVES = _slots(
    write_5m="ephemeral_5m_input_tokens",
    write_1h="ephemeral_1h_input_tokens",
)
_CACHES = _slots(
    written="cache_creation_input_tokens cache_creation_tokens cache_write_tokens cache_write_input_tokens "
    "cacheWriteInputTokens",
    write_5m="claude_cache_creation_5_m_tokens",
    write_1h="claude_cache_creation_1_h_tokens",
    tool="tool_tokens toolUsePromptTokenCount tool_use_prompt_tokens",
)
_COUNTS = _CACHES | _slots(
    prompt="prompt_tokens promptTokenCount",
    inputs="input_tokens inputTokens",
    completion="completion_tokens output_tokens candidatesTokenCount outputTokens",
    total="total_tokens totalTokenCount totalTokens",
    cached="cached_tokens prompt_cache_hit_tokens cache_read_input_tokens cache_read_tokens cachedContentTokenCount "
    "cacheReadInputTokens",
    reasoning="reasoning_tokens thoughtsTokenCount thinking_tokens",
)
_OF_PROMPT = _CACHES | _slots(
    cached_inside="cached_tokens cache_read_input_tokens cache_read_tokens", audio_prompt="audio_tokens"
)
_OF_COMPLETION = _slots(reasoning="reasoning_tokens", audio_completion="audio_tokens")
_INNER = {
    "prompt_tokens_details": _OF_PROMPT,
    "input_tokens_details": _OF_PROMPT,
    "promptTokensDetails": _OF_PROMPT,
    "completion_tokens_details": _OF_COMPLETION,
    "output_tokens_details": _OF_COMPLETION,
    "candidatesTokensDetails": _OF_COMPLETION,
    "cache_creation": _LIVES,
    "cache_creation_token_details": _LIVES,
}


def usage_in(envelope: Mapping[str, Any]) -> Usage:
    """The usage that stands in an answer or at the end of a stream; marked as missing where there is none."""
    stated = envelope.get("usage")
    found = read_usage(stated)
    if found is None:
        groq = envelope.get("x_groq")
        found = read_usage(envelope.get("usageMetadata")) or read_usage(
            groq.get("usage") if isinstance(groq, dict) else None
        )
    if found is None:
        cost = _stated_usd(stated) if isinstance(stated, dict) else None
        found = Usage(0, 0, 0, source="missing", endpoint_cost_usd=cost)
    tier = _name(envelope.get("service_tier"))
    return found if tier is None else msgspec.structs.replace(found, service_tier=tier)


def stated_usage(value: Any) -> Usage | None:
    """What a body, an answer's or an error's, states as used; None where it states nothing."""
    if not isinstance(value, dict):
        return None
    found = usage_in(value)
    if found.source == "missing":
        inner = value.get("error")
        return read_usage(inner.get("usage")) if isinstance(inner, dict) else None
    return found


def read_usage(usage: Any) -> Usage | None:
    """Token counts, also as strings; None where the endpoint sent none, or what can be no counts."""
    if not isinstance(usage, dict):
        return None
    counts: dict[str, int] = {}
    _gather(usage, _COUNTS, counts)
    get = counts.get
    prompt, completion, total = get("prompt", get("inputs")), get("completion"), get("total")
    if (prompt is None and completion is None) or prompt == _NONE or completion == _NONE:
        return None
    prompt, completion = max(prompt or 0, get("inputs", 0)), completion or 0
    cached, written = max(get("cached", _NONE), get("cached_inside", _NONE)), get("written", 0)
    if "write_5m" in counts or "write_1h" in counts:
        written = max(written, max(get("write_5m", 0), 0) + max(get("write_1h", 0), 0))
    aside = max(cached, 0) + max(written, 0)
    if aside and _are_apart(counts, aside, prompt, completion):
        prompt += aside
    return Usage(
        prompt,
        completion,
        prompt + completion if total is None or total == _NONE else total,
        None if cached == _NONE else cached,
        None if (reasoning := get("reasoning", _NONE)) == _NONE else reasoning,
        details=_details(counts, written),
        service_tier=_name(usage.get("service_tier")),
        endpoint_cost_usd=_stated_usd(usage),
    )


def _gather(place: dict[str, Any], slots: dict[str, str], counts: dict[str, int]) -> None:
    """Find the counts of one object and of those in it. The largest of a slot stays: a relay fills one spelling and leaves
    another at 0. What is stated and is no count is _NONE.
    """
    for name, value in place.items():
        slot = slots.get(name)
        if slot is not None:
            if value is not None:
                number = _tokens(value)
                if number > counts.get(slot, _NONE - 1):
                    counts[slot] = number
        elif name in _INNER:
            inner = _modalities(value) if isinstance(value, list) else value
            if isinstance(inner, dict):
                _gather(inner, _INNER[name], counts)


def _modalities(details: list[Any]) -> dict[str, Any]:
    """Google's list of modalities in OpenAI's words."""
    return {
        f"{one['modality'].lower()}_tokens": one.get("tokenCount")
        for one in details
        if isinstance(one, dict) and isinstance(one.get("modality"), str)
    }


def _are_apart(counts: dict[str, int], aside: int, prompt: int, completion: int) -> bool:
    """Whether the tokens of caches (`aside`) are counted beside the prompt, not in it."""
    if aside > prompt:
        return True
    rest, reasoning = counts.get("total", 0) - prompt - completion, max(counts.get("reasoning", 0), 0)
    if rest > 0:
        return rest in (aside, aside + reasoning) and rest != reasoning
    return "prompt" not in counts and "cached_inside" not in counts


def _details(counts: dict[str, int], written: int) -> TokenDetails | None:
    if written <= 0 and not any(counts.get(name, 0) > 0 for name in _RARE):
        return None
    hour, *others = (max(counts.get(name, 0), 0) for name in ("write_1h", *_RARE))
    return TokenDetails(max(written, 0), hour, *others)


def _tokens(value: Any) -> int:
    """A count of tokens. One that no model can have is _NONE: summed up, it would leave the range of a 64-bit column."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return _NONE
    return number if 0 <= number < MOST_TOKENS else _NONE


def _stated_usd(usage: dict[str, Any]) -> float | None:
    """What the endpoint says that the answer cost, in USD."""
    for name in _COST:
        if name in usage:
            stated = usage[name]
            if isinstance(stated, dict):  # Perplexity's
                stated = stated.get("total_cost")
            if (amount := _amount(stated)) is not None:
                return amount
    if "cost_in_usd_ticks" in usage and (ticks := _amount(usage["cost_in_usd_ticks"], _MOST_USD * _TICKS)) is not None:
        return ticks / _TICKS
    return None


def _amount(value: Any, most: float = _MOST_USD) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= most else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
