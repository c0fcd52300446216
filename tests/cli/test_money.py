"""What people are shown of money: a part is no whole, and the unknown is no zero."""

from typing import Any

import pytest

from batchrun.cli.status import _lines
from batchrun.cli.table import cost_table, prices_line


def row(model: str, cost: float | None, unpriced: int, source: str | None = "job") -> dict[str, Any]:
    counts = dict.fromkeys(("requests", "ok", "failed", "prompt_tokens", "completion_tokens"), 1)
    times = {"variant": "default", "latency_p50_s": None, "latency_p99_s": None}
    return {**counts, **times, "model": model, "cost_usd": cost, "unpriced": unpriced, "price_source": source}


def test_the_table_tells_a_part_from_a_whole() -> None:
    """`≥` before a sum that leaves something out; no amount where none is known."""
    cells = [
        line.split()[4:-4] for line in cost_table([row("m", 1.2, 0), row("n", 1.2, 3), row("o", None, 1)]).split("\n")
    ]
    assert cells[2:] == [["1.200000"], ["≥", "1.200000"], ["–"]]


LINES = [
    (row("total", 1.2, 0), "prices: job"),
    (
        row("total", 1.2, 1, "job; none for 1 results"),
        "prices: 1 request has no known price (job; none for 1 results); give",
    ),
    (row("total", None, 40, None), "prices: 40 requests have no known price; give"),
    (
        row("total", None, 2, "none: a private network"),
        "prices: 2 requests have no known price (none: a private network); g",
    ),
    (row("total", 0.0, 0, None), "prices: none needed, nothing was billed"),
]


@pytest.mark.parametrize(("total", "line"), LINES)
def test_the_bill_says_what_it_leaves_out(total: dict[str, Any], line: str) -> None:
    """How many requests, why, and what to do about it."""
    assert prices_line(total).startswith(line)


SPENT = [
    (1.2, 0, "spent:    $1.2000"),
    (1.2, 40, "spent:    ≥ $1.2000, 40 requests have no known price"),
    (None, 40, "spent:    unknown: 40 requests have no known price"),
    (0.0, 0, "spent:    $0.0000"),
]


@pytest.mark.parametrize(("spent", "unpriced", "line"), SPENT)
def test_status_says_what_is_not_in_the_sum(spent: float | None, unpriced: int, line: str) -> None:
    """Also while a run goes on."""
    status = {
        "state": "running", "requests": 50, "done": 40, "failed": 0, "rate_per_s": None, "eta_s": None, "in_flight": 0,
        "failed_by_kind": {}, "empty": {}, "message": None, "spent_usd": spent, "unpriced": unpriced,
        "tokens": 0,
    }  # fmt: skip
    assert line in _lines(status)
