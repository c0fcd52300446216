"""A price, and what an answer's tokens cost at it. Exact arithmetic on numbers that are given; knows no model's name.

Tokens that a provider counts apart are told by arithmetic: whatever `total_tokens` holds beyond prompt and completion was
produced, and is billed as such (xAI, Gemini and their relays leave reasoning out of `completion_tokens`).
"""

from decimal import Decimal
from typing import Any

import msgspec

from batchrun.money import Cost, a_token, whole
from batchrun.records import TokenDetails, Usage
from batchrun.sections import Price

Steps = tuple[tuple[int, Decimal], ...]
"""(from more than so many prompt tokens on, pico-dollars a token); the first starts at 0. The step holds for all tokens."""
_NO_DETAILS = TokenDetails()
_ZERO = Decimal(0)


class Rate(msgspec.Struct, frozen=True):
    """Pico-dollars a token, and where they are from. None is what has no price of its own: it costs as much as what it is
    a part of; answers of a model whose `output` is None have no known price. `request` is for each request.
    """

    source: str
    input: Steps
    output: Steps | None
    cached: Steps | None = None
    cache_write: Steps | None = None
    cache_write_1h: Steps | None = None
    audio_input: Steps | None = None
    audio_output: Steps | None = None
    reasoning: Steps | None = None
    request: Decimal = _ZERO

    def cost(self, usage: Usage) -> Cost | None:
        """What these tokens cost, None where some have no price. Parts that don't fit into the whole are cut down to it."""
        prompt, output = billed(usage)
        if self.output is None and output:
            return None
        cached = min(usage.cached or 0, prompt)
        if usage.details is None and self.reasoning is None:  # nearly always
            fresh = (prompt - cached) * _at(self.input, prompt)
            paid = fresh + cached * _at(self.cached or self.input, prompt) + self.request
            return Cost(whole(paid), whole(output * _at(self.output or self.input, prompt)))
        details = usage.details or _NO_DETAILS
        written = min(details.cache_write, prompt - cached)
        hour = min(details.cache_write_1h, written)
        plain = prompt - cached - written
        sound = min(details.audio_prompt, plain)
        spoken = min(details.audio_completion, output)
        thought = min(usage.reasoning or 0, output - spoken) if self.reasoning is not None else 0
        write = self.cache_write or self.input
        incoming = (
            (plain - sound, self.input),
            (cached, self.cached or self.input),
            (written - hour, write),
            (hour, self.cache_write_1h or write),
            (sound, self.audio_input or self.input),
        )
        outgoing = (
            (output - spoken - thought, self.output),
            (spoken, self.audio_output or self.output),
            (thought, self.reasoning or self.output),
        )
        return Cost(whole(_sum(incoming, prompt) + self.request), whole(_sum(outgoing, prompt)))

    def times(self, factor: Decimal, source: str) -> "Rate":
        """All of it so many times as much."""
        priced = {
            name: tuple((start, price * factor) for start, price in steps)
            for name in _STEPS
            if (steps := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(self, source=source, request=self.request * factor, **priced)

    @property
    def dearest_input(self) -> Decimal:
        """The most that a token of a prompt can cost."""
        kinds = (self.input, self.cached, self.cache_write, self.cache_write_1h, self.audio_input)
        return max(price for steps in kinds if steps for _start, price in steps)

    @property
    def dearest_output(self) -> Decimal:
        """The most that a token of an answer can cost."""
        kinds = (self.output, self.audio_output, self.reasoning)
        return max((price for steps in kinds if steps for _start, price in steps), default=_ZERO)


_STEPS = tuple(name for name in Rate.__struct_fields__ if name not in ("source", "request"))


def billed(usage: Usage) -> tuple[int, int]:
    """The tokens that went in and came out, whatever the provider counts apart."""
    details = usage.details
    extra = max(0, usage.total - usage.prompt - usage.completion)
    tool = 0 if details is None else min(details.tool, extra)
    output = usage.completion + extra - tool
    reasoning = usage.reasoning or 0
    if not extra and reasoning > usage.completion:  # more than what it would be a part of: apart, and no total says so
        output += reasoning
    return usage.prompt + tool, output


def own_rate(price: Price) -> Rate:
    """The rate of a job's own price."""
    given = {"cached": price.cached_input, "cache_write": price.cache_write, "cache_write_1h": price.cache_write_1h}
    stated: dict[str, Any] = {name: flat(a_token(value)) for name, value in given.items() if value is not None}
    return Rate("job", flat(a_token(price.input)), flat(a_token(price.output)), **stated)


def flat(price: Decimal) -> Steps:
    """One price for any number of tokens."""
    return ((0, price),)


def _sum(counted: tuple[tuple[int, Steps | None], ...], prompt: int) -> Decimal:
    return sum((count * _at(steps, prompt) for count, steps in counted if count and steps), _ZERO)


def _at(steps: Steps, prompt: int) -> Decimal:
    """The price of the last step that a prompt of so many tokens is past."""
    found = steps[0][1]
    for start, price in steps[1:]:
        if prompt > start:
            found = price
    return found
