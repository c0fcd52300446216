"""Plain tables for a terminal, and messages to stderr."""

import sys
from collections.abc import Sequence
from typing import Any


def say(message: str) -> None:
    """A message for a person: to stderr, nothing in it can steer a terminal."""
    from batchrun.report.progress import printable

    print(f"batchrun: {printable(message)}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """Aligned columns; the first `left` to the left, the others to the right."""
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        pairs = list(zip(row, widths, strict=True))
        texts = [cell.ljust(width) if place < left else cell.rjust(width) for place, (cell, width) in enumerate(pairs)]
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def cost_table(rows: Sequence[dict[str, Any]]) -> str:
    """The cost summary as people read it."""
    head = ("model", "variant", "requests", "ok", "failed", "prompt tok", "compl. tok", "cost USD", "p50 s", "p99 s")
    shown = rows if len(rows) > 2 or not rows else rows[:1]
    body = [
        (
            row["model"],
            row["variant"],
            row["requests"],
            row["ok"],
            row["failed"],
            row["prompt_tokens"],
            row["completion_tokens"],
            _cost(row),
            None if row["latency_p50_s"] is None else f"{row['latency_p50_s']:.3f}",
            None if row["latency_p99_s"] is None else f"{row['latency_p99_s']:.3f}",
        )
        for row in shown
    ]
    return table(head, body, left=2)


def prices_line(total: dict[str, Any]) -> str:
    """Where the prices are from, and what the bill leaves out, from the total row of a cost summary."""
    sources, unpriced = total["price_source"], total["unpriced"]
    if not unpriced:
        return f"prices: {sources}" if sources else "prices: none needed, nothing was billed"
    requests = "1 request has" if unpriced == 1 else f"{unpriced} requests have"
    why = f" ({sources})" if sources else ""
    return f'prices: {requests} no known price{why}; give [prices."MODEL"] in the job'


def _cost(row: dict[str, Any]) -> str | None:
    """The cell of a sum of money: `≥` where some of it has no known price, nothing where none has one."""
    if row["cost_usd"] is None:
        return None
    return f"{'≥ ' if row['unpriced'] else ''}{row['cost_usd']:.6f}"


def _text(cell: Any) -> str:
    from batchrun.report.progress import printable

    if cell is None:
        return "–"
    return f"{cell:,}".replace(",", " ") if isinstance(cell, int) else printable(str(cell)).replace("\n", " ")
