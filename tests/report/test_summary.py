"""The cost summary: groups, sums, quantiles."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from batchrun.job import Price
from batchrun.judge.prices import Prices, usd
from batchrun.ledger.layout import Layout
from batchrun.ledger.parts import read_table, write_part
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result
from batchrun.report.summary import SCHEMA, read_summary, write_summary


def answered(row: int, variant: str, model: str = "m", tokens: int = 7) -> Result:
    return Result(
        row,
        f"r{row}",
        variant,
        0,
        "h",
        "ok",
        model=model,
        endpoint="e",
        prompt_tokens=tokens,
        completion_tokens=3,
        total_tokens=tokens + 3,
        attempts=1,
        latency_s=row / 10,
        started_at=10**15 + row * 10**6,
    )


@pytest.fixture
def summary(tmp_path: Path) -> tuple[list[dict[str, object]], pa.Table]:
    prices = Prices({"m": Price(input=0.1, output=0.3)}, "http://localhost/v1/chat/completions")
    found = [answered(row, "a" if row < 60 else "b", tokens=row) for row in range(99)]
    found.append(Result(99, "r99", "b", 0, "h", "failed", model="m", endpoint="e", attempts=8, error_kind="server"))
    folder = LocalStore(tmp_path)
    part, target = Stored(folder, "part-00000.parquet"), Stored(folder, "s.parquet")
    inputs = pa.table({"t": [""] * 100})
    write_part(part, Layout(inputs.schema), inputs, 1, found, prices.pico, usd)
    counts = write_summary([part], target, prices.cost, prices.source)
    assert counts == (99, 1)
    return read_summary(target), read_table([part])


def test_there_is_a_row_for_each_group_and_one_total(summary: tuple[list[dict[str, object]], pa.Table]) -> None:
    """One row for each (endpoint, model, variant), the total last, in the columns of the contract."""
    rows, _table = summary
    assert [(row["model"], row["variant"], row["requests"]) for row in rows] == [
        ("m", "a", 60),
        ("m", "b", 40),
        ("total", None, 100),
    ]
    assert list(rows[0]) == SCHEMA.names
    assert (rows[1]["ok"], rows[1]["failed"], rows[1]["attempts"]) == (39, 1, 47)


def test_sums_equal_the_results_exactly(summary: tuple[list[dict[str, object]], pa.Table]) -> None:
    """Tokens as integers, money as decimals: the bill is the sum of the rows."""
    rows, table = summary
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "attempts"):
        assert rows[-1][name] == sum(value or 0 for value in table[name].to_pylist())
    cost = sum(Decimal(repr(value)) for value in table["cost_usd"].to_pylist() if value is not None)
    assert Decimal(repr(rows[-1]["cost_usd"])) == cost
    parts = Decimal(repr(rows[-1]["input_cost_usd"])) + Decimal(repr(rows[-1]["output_cost_usd"]))
    assert parts == cost


def test_quantiles_are_values_that_were_measured(summary: tuple[list[dict[str, object]], pa.Table]) -> None:
    """Nearest rank over the answers that came."""
    rows, _table = summary
    assert rows[-1]["latency_p50_s"] == pytest.approx(4.9)
    assert rows[-1]["latency_p90_s"] == pytest.approx(8.9)
    assert rows[-1]["latency_p99_s"] == pytest.approx(9.8)
    assert rows[-1]["first_token_p50_s"] is None


def test_without_a_price_there_is_no_cost(tmp_path: Path) -> None:
    """Null, not zero, where no price is known."""
    prices = Prices({}, "http://localhost/v1/chat/completions")
    folder = LocalStore(tmp_path)
    part, target = Stored(folder, "part-00000.parquet"), Stored(folder, "s.parquet")
    inputs, found = pa.table({"t": [""]}), [answered(0, "default", "no-such-model")]
    write_part(part, Layout(inputs.schema), inputs, 1, found, prices.pico, usd)
    write_summary([part], target, prices.cost, prices.source)
    row = read_summary(target)[-1]
    assert (row["cost_usd"], row["price_source"]) == (None, None)
    assert read_table([part])["cost_usd"].to_pylist() == [None]
