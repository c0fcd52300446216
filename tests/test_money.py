"""Money is exact, and shown for what it is."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.money import PICO, Cost, a_token, dollars, pico, shown, usd


@given(st.integers(0, 4096 * PICO))
def test_a_double_of_dollars_is_the_amount_that_it_was_made_from(amount: int) -> None:
    """To the pico-dollar, for any amount that a request can cost."""
    assert pico(usd(amount)) == amount


@given(st.lists(st.integers(0, 10**13), max_size=20))
def test_doubles_add_up_as_decimals(amounts: list[int]) -> None:
    """What stands in a column adds up to what the sum is, written as decimals."""
    assert sum((Decimal(repr(usd(one))) for one in amounts), Decimal(0)) * PICO == sum(amounts)


def test_a_price_is_taken_as_it_is_written() -> None:
    """0.1 dollars a million is 100,000 pico-dollars a token, not what the nearest double is."""
    assert a_token(0.1) == 100_000
    assert a_token(Decimal("0.0000001")) == Decimal("0.1")


def test_costs_add_up() -> None:
    """Nothing added is nothing changed."""
    assert Cost(1, 2).plus(None) == Cost(1, 2)
    assert Cost(1, 2).plus(Cost(30, 40)) == Cost(31, 42)
    assert Cost(1, 2).total == 3


SHOWN = [
    (1_200_000_000_000, 0, "$1.2000"),
    (0, 0, "$0.0000"),
    (1_600_000, 0, "$0.000002"),
    (1, 0, "$0.000000000001"),
    (49_999_999, 0, "$0.00005"),
    (None, 0, "unknown"),
    (None, 1, "unknown: 1 request has no known price"),
    (0, 40, "unknown: 40 requests have no known price"),
    (1_200_000_000_000, 40, "≥ $1.2000, 40 requests have no known price"),
]


@pytest.mark.parametrize(("amount", "unpriced", "text"), SHOWN)
def test_an_amount_is_shown_for_what_it_is(amount: int | None, unpriced: int, text: str) -> None:
    """A part is no whole, the unknown is no zero, and little is not nothing."""
    assert shown(amount, unpriced) == text


def test_many_digits_are_for_little_amounts_alone() -> None:
    """Four digits are enough where they show anything."""
    assert [dollars(amount) for amount in (50_000_000, 123_456_789_000_000)] == ["$0.0001", "$123.4568"]
