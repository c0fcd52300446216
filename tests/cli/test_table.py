"""Tables fit the terminal, by what its cells hold, and show what a sweep varies (contract.md §2)."""

from typing import Any

import pytest

from batchrun.cli import table
from batchrun.cli.table import cells_of, cost_table


def row(model: str, variant: str | None, requests: int = 2400) -> dict[str, Any]:
    return {
        "model": model,
        "variant": variant,
        "requests": requests,
        "ok": requests,
        "failed": 0,
        "prompt_tokens": 1234567,
        "completion_tokens": 98765,
        "cost_usd": 1.234567,
        "unpriced": 0,
        "latency_p50_s": 1.5,
        "latency_p99_s": 22.75,
    }


SWEPT = [row("a", "model=a,temperature=0.0"), row("a", "model=a,temperature=0.7"), row("b", "model=b,temperature=0.0")]
LONG = "anthropic/claude-3-5-sonnet-20241022-with-a-long-name"
TABLES = {
    "plain": [row("m", "default")],
    "long names": [row(LONG, "a variant that somebody gave a really long name to"), row("m", "x"), row("total", None)],
    "wide signs": [
        row("模型模型模型模型模型模型模型模型", "温度很高的变体温度很高的变体"),
        row("m", "x"),
        row("total", None),
    ],
    "swept": [*SWEPT, row("total", None)],
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, None])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits(monkeypatch: pytest.MonkeyPatch, name: str, width: int | None) -> None:
    """No line is wider than the terminal, all columns stand below their heads, and the counts are always there."""
    monkeypatch.setattr(table, "terminal_width", lambda: width)
    lines = cost_table(TABLES[name]).splitlines()
    assert width is None or all(cells_of(line) <= width for line in lines)
    assert all(word in lines[0] for word in ("model", "requests"))
    assert "2 400" in lines[2]
    if width is None or width >= 80:
        assert "cost USD" in lines[0]
        assert "1.234567" in lines[2]
    rule = [len(part) for part in lines[1].split("  ")]
    assert all(cells_of(line) <= sum(rule) + 2 * (len(rule) - 1) for line in lines)


def test_a_pipe_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stdout is no terminal, nothing is cut."""
    monkeypatch.setattr(table, "terminal_width", lambda: None)
    text = cost_table(TABLES["long names"])
    assert LONG in text
    assert "p99 s" in text


def test_what_a_sweep_varies_has_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each swept key but the model, which has a column already; in the order of the rows. Other names stay whole."""
    monkeypatch.setattr(table, "terminal_width", lambda: 80)
    lines = cost_table(TABLES["swept"]).splitlines()
    assert lines[0].split()[:3] == ["model", "temperature", "requests"]
    assert [line.split()[:2] for line in lines[2:5]] == [["a", "0.0"], ["a", "0.7"], ["b", "0.0"]]
    assert lines[5].split()[:2] == ["total", "2"]
    mixed = cost_table([*SWEPT, row("c", "terse"), row("total", None)])
    assert "variant" in mixed.splitlines()[0]
    assert "variant" not in cost_table(TABLES["plain"])
    by_model = cost_table([row("a", "model=a"), row("b", "model=b"), row("total", None)])
    assert by_model.splitlines()[0].split()[:2] == ["model", "requests"]


@pytest.mark.parametrize(
    ("text", "cells"), [("abc", 3), ("模型", 4), ("e\u0301", 1), ("a\u200bb", 2), ("👍", 2), ("ﬀ", 1), ("", 0)]
)
def test_cells(text: str, cells: int) -> None:
    """Wide signs take two cells, accents and joiners none."""
    assert cells_of(text) == cells
