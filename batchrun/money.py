"""Money, exact: integers of 10⁻¹² USD (pico-dollars) inside, dollars at the edges.

Prices are stated in dollars for a million tokens, so that a token costs a whole number of pico-dollars for any price with
up to six decimals. Integers add up to the same sum in any order; a double appears only where a file or a person gets it.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

PICO = 10**12
"""Pico-dollars in a dollar."""
PER_MILLION = PICO // 10**6
"""Pico-dollars a token for each dollar a million tokens."""


class Cost(NamedTuple):
    """What one answer cost, in pico-dollars: its prompt, and what came back."""

    input: int
    output: int

    @property
    def total(self) -> int:
        return self.input + self.output

    def plus(self, other: "Cost | None") -> "Cost":
        """Both together; None adds nothing."""
        return self if other is None else Cost(self.input + other.input, self.output + other.output)


def whole(amount: Decimal) -> int:
    """The nearest whole number of pico-dollars."""
    return int(amount.to_integral_value(ROUND_HALF_EVEN))


def usd(pico: int) -> float:
    """Pico-dollars as the nearest double of dollars."""
    return float(Decimal(pico) / PICO)


def pico(dollars: float) -> int:
    """A double of dollars as pico-dollars: the amount that `usd` made it from, for any below 4,096 dollars."""
    return whole(Decimal(repr(dollars)) * PICO)


def a_token(per_million: float | Decimal) -> Decimal:
    """Dollars for a million tokens as pico-dollars a token; a double is taken as it is written."""
    given = per_million if isinstance(per_million, Decimal) else Decimal(repr(per_million))
    return given * PER_MILLION


def dollars(amount: int, digits: int = 4) -> str:
    """An amount as people read it: `$1.2034`; one that so few digits would show as nothing has more."""
    value = usd(amount)
    while amount and digits < 12 and abs(value) < 0.5 * 10**-digits:
        digits += 1
    return f"${value:.{digits}f}"


def shown(amount: int | None, unpriced: int = 0) -> str:
    """A sum as people read it. `unpriced` requests have no known price: what is known is then a lower bound, and where
    nothing is known there is no amount at all, never one of zero.
    """
    if not unpriced:
        return "unknown" if amount is None else dollars(amount)
    noun = "request has" if unpriced == 1 else "requests have"
    if not amount:
        return f"unknown: {unpriced} {noun} no known price"
    return f"≥ {dollars(amount)}, {unpriced} {noun} no known price"
