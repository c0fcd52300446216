"""Names that people type: request parameters, and what keys of a job are called elsewhere. Guesses what was meant."""

import difflib
from collections.abc import Iterable

_PARAMETERS = """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata modalities
    n parallel_tool_calls prediction presence_penalty reasoning reasoning_effort response_format seed service_tier stop store
    stream stream_options temperature thinking tool_choice tools top_k top_logprobs top_p user verbosity web_search_options
    best_of chat_template_kwargs dimensions enable_thinking encoding_format extra_body guided_json guided_regex ignore_eos
    include_reasoning length_penalty min_p min_tokens prompt_logprobs provider repetition_penalty safe_prompt
    skip_special_tokens stop_token_ids structured_outputs top_a transforms typical_p use_beam_search
"""
PARAMETERS = frozenset(_PARAMETERS.split())
"""What chat endpoints take beside `model` and `messages`: OpenAI's, and those of the servers and relays of its family."""

_ELSEWHERE = {
    "api_key": "endpoint.api_key_env",
    "budget": "limits.budget_usd",
    "file": "input.path",
    "key": "endpoint.api_key_env",
    "max_concurrency": "limits.concurrency",
    "max_retries": "retry.max_attempts",
    "parallel": "limits.concurrency",
    "prompt": "prompt.user",
    "retries": "retry.max_attempts",
    "rpm": "limits.requests_per_minute",
    "timeout": "timeouts.total",
    "tpm": "limits.tokens_per_minute",
    "url": "endpoint.base_url",
    "workers": "limits.concurrency",
}
"""Keys of a job by what they are called as a flag, or in other programs."""

_NEARLY = 0.8


def nearest(key: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """The known name that is most like `key`, None where none is."""
    return next(iter(difflib.get_close_matches(key, list(known), 1, least)), None)


def parameter_meant(key: str) -> str | None:
    """The request parameter that `key` is nearly, None for one that is itself known and for one unlike any."""
    return None if key in PARAMETERS else nearest(key, PARAMETERS, _NEARLY)


def key_meant(key: str, places: Iterable[str]) -> str | None:
    """The dotted key of a job that a name stands for which is none where it was written. `places` are all dotted keys."""
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    if key in PARAMETERS:
        return f"params.{key}"
    found = [place for place in places if place.rpartition(".")[2] == key]
    return found[0] if len(found) == 1 else None
