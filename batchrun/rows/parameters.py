"""Parameters that stand beside `messages` or `prompt`, at the top level of a row, as in OpenAI's cookbook:
`{"model": …, "messages": […], "temperature": 0}`.

A column of a data set may be called like one (`model`, `user`), so a row counts as a request only where it has a parameter
that nothing else is called by, or nothing but parameters. Source of the names: OpenAI, "Create chat completion"; vLLM,
"Extra parameters".
"""

from collections.abc import Collection
from typing import Any

from batchrun.rows.plain import from_json, is_missing, plain

SHAPE = frozenset({"messages", "prompt", "system", "params", "custom_id", "id"})
_NUMBERS = frozenset(
    {
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty"),
        *("top_logprobs", "logprobs", "parallel_tool_calls", "top_k", "min_p", "repetition_penalty", "min_tokens"),
    }
)
_OBJECTS = frozenset(
    {
        *("logit_bias", "response_format", "tools", "tool_choice", "function_call", "stream_options", "modalities"),
        *("prediction", "web_search_options", "chat_template_kwargs", "guided_json", "guided_choice", "extra_body"),
    }
)
_TEXTS = frozenset({"reasoning_effort", "service_tier", "verbosity", "prompt_cache_key", "safety_identifier"})
_SURE = _NUMBERS | _OBJECTS | _TEXTS
_SHARED = frozenset({"model", "n", "seed", "stop", "stream", "store", "user", "metadata", "functions", "audio"})
_PARSED = _NUMBERS | _OBJECTS | {"n", "seed", "stream", "store", "metadata", "functions", "audio"}
_WORDS = frozenset({"tool_choice", "function_call"})
COLUMNS = SHAPE | _SURE | _SHARED
"""The columns that a row without a template may be made of, batch lines' own apart."""


def top_level(data: dict[str, Any], names: Collection[str], *, filled: bool, id_column: str | None) -> dict[str, Any]:
    """The parameters of a row, none where it is no request. `names` are all its columns. Raises RowError."""
    if data.keys().isdisjoint(_SURE) and "model" not in data:
        return {}
    given = {
        key: value
        for key, value in data.items()
        if key in COLUMNS and key not in SHAPE and not (is_missing(value) and filled)
    }
    others = any(name not in COLUMNS and name != id_column for name in names)
    if given.keys().isdisjoint(_SURE) and (others or "model" not in given):
        return {}
    if "metadata" in given and given.get("store") is not True:
        del given["metadata"]  # the cookbook's own note about the line, which endpoints refuse
    return {key: _value(key, value, filled=filled) for key, value in given.items()}


def _value(key: str, value: Any, *, filled: bool) -> Any:
    """A parameter's value: a table without nested columns has it as JSON text."""
    if isinstance(value, str) and key in _PARSED and not (key in _WORDS and value[:1] != "{"):
        return from_json(value, key)
    return plain(value, key) if filled else value
