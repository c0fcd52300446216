"""Failures by kind and message: what is one and the same, how many there are, and what to do about each kind."""

import pytest

from batchrun.errors import Kind
from batchrun.records import Result
from batchrun.report.failures import REMEDIES, folded, grouped


def failed(row: int, message: str, kind: str = "bad_request") -> Result:
    return Result(row, f"r{row}", "default", 0, "h", "failed", error_kind=kind, error_message=message)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 400: 4097 tokens, at most 4096", "HTTP 400: 5,120 tokens, at most 4096"),
        ("no such model `gpt-4` (request req_01HXYZ77)", "no such model `gpt-5` (request req_9ab88c2d)"),
        ("refused 'the first text'", "refused 'another 2 texts'"),
        ('a "quoted\u00a0thing" here', 'a "b" here'),
        ("id 550e8400-e29b-41d4-a716-446655440000 failed", "id 123e4567-e89b-12d3-a456-426614174000 failed"),
        ("took 12.5 s", "took 3 s"),
    ],
)
def test_what_differs_from_row_to_row_is_folded(one: str, other: str) -> None:
    """Numbers, ids and quoted texts don't tell messages apart."""
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("HTTP 400: no", "HTTP 413: no"), ("it doesn't fit, it can't be", "it doesn't work, it can't be")],
)
def test_what_tells_faults_apart_is_kept(one: str, other: str) -> None:
    """The HTTP status and the words of a message tell faults apart; an apostrophe is no quotation mark."""
    assert folded(one) != folded(other)


def test_groups_are_counted_with_their_first_row() -> None:
    """The most frequent group comes first; its example is the first row, whatever came first."""
    found = grouped([failed(9, "x 1"), failed(4, "x 2"), failed(1, "y"), failed(2, "x 1", kind="server")])
    assert [(one.kind, one.message, one.count, one.example.row) for one in found] == [
        ("bad_request", "x #", 2, 4),
        ("bad_request", "y", 1, 1),
        ("server", "x #", 1, 2),
    ]


def test_messages_that_are_all_different_take_no_room() -> None:
    """However many messages there are, what comes after the first few hundred is counted by its kind."""
    words = (f"{chr(97 + n // 676)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(2000))
    found = grouped(failed(n, word) for n, word in enumerate(words))
    assert len(found) <= 501
    assert sum(one.count for one in found) == 2000


def test_every_kind_has_its_remedy() -> None:
    """Whatever fails, the program says what to do about it."""
    assert set(REMEDIES) == set(Kind)
