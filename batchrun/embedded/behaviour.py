"""How the embedded endpoint behaves: one frozen record of settings, and nothing else.

The endpoint is a stand-in that makes a run possible without a key or a network. It is no language model: it answers
from word lists and hashes. This module must never do I/O, nor import the server: a parent that only spawns the endpoint
reads it.
"""

import msgspec

from batchrun.embedded.faults import Fault
from batchrun.embedded.tokens import Tokenizer

DEFAULT_MODELS = ("embedded-small", "claude-3-5-sonnet-20241022")
"""What /v1/models lists when no model is named."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one embedded endpoint. A zero means "no limit" or "at once".

    `models`               the models that are served; empty: any name is accepted
    `api_key`              the only bearer key that is accepted; None: any key or none
    `first_token_s`        seconds from being admitted to the first token
    `tokens_per_s`         speed of one answer after its first token
    `slots`                answers generated at the same time; others wait in the order in which they came
    `requests_per_minute`  a bucket that holds one minute's worth and refills evenly
    `tokens_per_minute`    the same, charged with the prompt plus `max_tokens`, settled with what was used
    `tokenizer`            how tokens are counted: `bytes`, as clients estimate, or `words`, which differs (tokens.py)
    `context_length`       prompt plus `max_tokens` may not exceed it
    `faults`               the first fault that applies to a request is played
    `seed`                 part of the hash that chooses answers, and of the faults' probability
    """

    models: tuple[str, ...] = ()
    api_key: str | None = None
    first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    slots: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokenizer: Tokenizer = "bytes"
    context_length: int = 128_000
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("first_token_s", "tokens_per_s", "slots", "requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.context_length < 1:
            raise ValueError("context_length must be at least 1")

    @property
    def listed_models(self) -> tuple[str, ...]:
        return self.models or DEFAULT_MODELS

    @property
    def instant(self) -> bool:
        """Whether an answer needs neither a timer nor a place in a queue."""
        return not (self.first_token_s or self.tokens_per_s or self.slots)
