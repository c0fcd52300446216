"""The cost summary: groups, sums, quantiles, and the bill held against the results."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.errors import BooksError
from batchrun.ledger.layout import Layout
from batchrun.ledger.parts import merge, read_table, sums, write_part
from batchrun.ledger.store import LocalStore, Stored
from batchrun.money import PICO, usd
from batchrun.records import Result
from batchrun.report import summary as books
from batchrun.report.summary import SCHEMA, read_summary, write_summary

INPUTS = pa.schema([("t", pa.string())])


def answered(row: int, variant: str, model: str = "m", tokens: int = 7, **more: Any) -> Result:
    priced = {"cost": 100_000 * tokens + 900_000, "input_cost": 100_000 * tokens, "price_source": "job"}
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
        **{**priced, **more},
    )


def sealed(folder: LocalStore, number: int, results: list[Result]) -> Stored:
    part = Stored(folder, f"part-{number:05d}.parquet")
    write_part(part, Layout(INPUTS), pa.table({"t": [""] * len(results)}), 1, results)
    return part


def summed(folder: Path, results: list[Result]) -> list[dict[str, Any]]:
    store = LocalStore(folder)
    target = Stored(store, "s.parquet")
    write_summary([sealed(store, 0, results)], target)
    return read_summary(target)


@pytest.fixture
def summary(tmp_path: Path) -> tuple[list[dict[str, object]], pa.Table]:
    found = [answered(row, "a" if row < 60 else "b", tokens=row) for row in range(99)]
    found.append(Result(99, "r99", "b", 0, "h", "failed", model="m", endpoint="e", attempts=8, error_kind="server"))
    folder = LocalStore(tmp_path)
    part, target = sealed(folder, 0, found), Stored(folder, "s.parquet")
    assert write_summary([part], target) == (99, 1)
    return read_summary(target), read_table([part])


def test_there_is_a_row_for_each_group_and_one_total(summary: tuple[list[dict[str, object]], pa.Table]) -> None:
    """One row for each (endpoint, model, variant), the total last, in the columns of the contract."""
    rows, _table = summary
    assert [(row["model"], row["variant"], row["requests"]) for row in rows] == [
        ("m", "a", 60),
        ("m", "b", 40),
        ("total", None, 100),
    ]
    assert list(rows[0]) == [*SCHEMA.names, "unpriced"]
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
    row = summed(tmp_path, [answered(0, "default", cost=None, input_cost=None, price_source=None)])[-1]
    assert (row["cost_usd"], row["input_cost_usd"], row["price_source"], row["unpriced"]) == (None, None, None, 1)


def test_why_there_is_no_price_is_said(tmp_path: Path) -> None:
    """The reason stands where a source would."""
    unpriced = {"cost": None, "input_cost": None, "price_source": "none: a private network"}
    assert summed(tmp_path, [answered(0, "default", **unpriced)])[-1]["price_source"] == "none: a private network"


def test_a_bill_that_is_priced_in_part_says_so(tmp_path: Path) -> None:
    """What is known is summed; how many answers are left out of it is told, and why."""
    unpriced = {"cost": None, "input_cost": None, "price_source": "none: no price for tier vip"}
    row = summed(tmp_path, [answered(0, "default"), answered(1, "default", **unpriced)])[-1]
    assert (row["cost_usd"], row["unpriced"]) == (usd(1_600_000), 1)
    assert row["price_source"] == "job; none for 1 results (no price for tier vip)"


def test_a_cost_of_unknown_shares_is_not_split(tmp_path: Path) -> None:
    """Where an older version kept no shares, prompts and answers have no amount of their own; the whole has."""
    row = summed(tmp_path, [answered(0, "default"), answered(1, "default", input_cost=None)])[-1]
    assert (row["cost_usd"], row["input_cost_usd"], row["output_cost_usd"]) == (usd(3_200_000), None, None)


def test_a_failed_request_that_was_billed_is_in_the_books(tmp_path: Path) -> None:
    """What attempts cost that brought no answer is summed like the rest."""
    failed = Result(1, "r1", "default", 0, "h", "failed", model="m", endpoint="e", cost=5, input_cost=5, attempts=2)
    assert summed(tmp_path, [answered(0, "default"), failed])[-1]["cost_usd"] == usd(1_600_005)


RESULTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["m", "n", None]),
        st.sampled_from(["v", "w"]),
        st.sampled_from(["ok", "failed"]),
        st.none() | st.integers(0, 10**13),
        st.none() | st.integers(0, 10**9),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(RESULTS, st.integers(3, 8))
def test_the_bill_is_the_sum_of_the_results(tmp_path: Path, given_results: list[Any], size: int) -> None:
    """For any mix of endpoints, models, variants, failures and prices, over any number of parts: every sum of the summary is
    that over results.parquet, money to the pico-dollar as decimals.
    """
    found = [
        Result(
            row, f"r{row}", variant, 0, "h", status, endpoint=endpoint, model=model, cost=cost,
            input_cost=None if cost is None else cost // 3, prompt_tokens=tokens, total_tokens=tokens, attempts=attempts,
        )
        for row, (endpoint, model, variant, status, cost, tokens, attempts) in enumerate(given_results)
    ]  # fmt: skip
    folder = LocalStore(tmp_path)
    parts = [
        sealed(folder, number, found[first : first + size]) for number, first in enumerate(range(0, len(found), size))
    ]
    merged, target = Stored(folder, "results.parquet"), Stored(folder, "s.parquet")
    merge(parts, merged, Layout(INPUTS))
    write_summary([merged], target)
    rows, table = read_summary(target), pq.read_table(tmp_path / "results.parquet")
    for column in ("attempts", "prompt_tokens", "total_tokens"):
        expected = sum(value or 0 for value in table[column].to_pylist())
        assert rows[-1][column] == sum(row[column] for row in rows[:-1]) == expected
    money = [Decimal(repr(value)) for value in table["cost_usd"].to_pylist() if value is not None]
    assert [one * PICO for one in money] == [one.cost for one in found if one.cost is not None]
    assert sum(Decimal(repr(row["cost_usd"] or 0.0)) for row in rows[:-1]) == sum(money)
    assert Decimal(repr(rows[-1]["cost_usd"] or 0.0)) == sum(money)
    unpriced = sum(one.cost is None and bool(one.total_tokens) for one in found)
    assert (rows[-1]["cost_usd"] is None) == (unpriced > 0 and not money)
    assert rows[-1]["unpriced"] == unpriced


def test_a_bill_that_is_not_the_results_is_never_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is held against the results before the run is called complete: it is taken away, and both figures are named."""
    monkeypatch.setattr(books, "sums", lambda files, names: {**sums(files, names), "cost_usd": 1_600_001})
    with pytest.raises(
        BooksError, match=r"cost_usd of its total is \$0.000001600000, .* sums to \$0.000001600001"
    ) as caught:
        summed(tmp_path, [answered(0, "default")])
    assert caught.value.exit_code == 70
    assert not (tmp_path / "s.parquet").exists()
