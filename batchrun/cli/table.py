"""Plain tables for a terminal, as wide as it is, and messages to stderr."""

import shutil
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

_GAP = "  "
_SHORT = 24
"""Texts are cut to so many cells before any column is left out, an ellipsis included."""
_LEAST = 8
"""And never to fewer than so many."""


def say(message: str) -> None:
    """A message for a person: to stderr, nothing in it can steer a terminal."""
    from batchrun.report.words import printable

    print(f"batchrun: {printable(message)}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1, width: int | None = None) -> str:
    """Aligned columns; the first `left`, which are texts, to the left, the others to the right. In no more than `width` cells:
    the longest texts are cut first, then columns are left out from the right.
    """
    cells = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = [max(cells_of(row[column]) for row in cells) for column in range(len(head))]
    if width is not None:
        widths = _fitted(widths, left, width)
    lines = []
    for row in cells:
        pairs = zip(row, widths, strict=False)
        lines.append(_GAP.join(_filled(cell, wide, place < left) for place, (cell, wide) in enumerate(pairs)).rstrip())
    lines.insert(1, _GAP.join("─" * wide for wide in widths))
    return "\n".join(lines)


def cost_table(rows: Sequence[dict[str, Any]]) -> str:
    """The cost summary as people read it: what a sweep varies has a column for each key."""
    shown = rows if len(rows) > 2 or not rows else rows[:1]
    columns, values = variant_columns([row["variant"] for row in shown])
    body = [
        (
            row["model"],
            *values(row["variant"]),
            row["requests"],
            row["ok"],
            row["failed"],
            _cost(row),
            row["prompt_tokens"],
            row["completion_tokens"],
            None if row["latency_p50_s"] is None else f"{row['latency_p50_s']:.3f}",
            None if row["latency_p99_s"] is None else f"{row['latency_p99_s']:.3f}",
        )
        for row in shown
    ]
    head = ("model", *columns, "requests", "ok", "failed", "cost USD", "tok in", "tok out", "p50 s", "p99 s")
    return table(head, body, left=1 + len(columns), width=terminal_width())


def terminal_width() -> int | None:
    """How many cells a line on stdout has, None where that is no terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def cells_of(text: str) -> int:
    """How many cells of a terminal a text takes: Chinese, Japanese and Korean signs and emoji two, accents none."""
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def variant_columns(names: Sequence[str | None]) -> tuple[tuple[str, ...], Callable[[str | None], tuple[str, ...]]]:
    """The columns that tell variants apart, and a variant's values in them: each swept key but the model, which has a column
    already, where every name is of the sort `temperature=0.5,top_p=1`; else the names. None where there is one variant.
    """
    given = list(dict.fromkeys(name for name in names if name))  # the total has none
    if given == ["default"]:
        return (), lambda _name: ()
    found = {name: dict(part.partition("=")[::2] for part in name.split(",")) for name in given}
    keys = {tuple(values) for values in found.values()}
    if len(keys) != 1 or not all(key.isidentifier() and "=" in name for name in given for key in found[name]):
        return ("variant",), lambda name: (name or "",)
    columns = tuple(key for key in keys.pop() if key != "model")
    return columns, lambda name: tuple(found[name][key] if name else "" for key in columns)


def _fitted(widths: list[int], left: int, width: int) -> list[int]:
    """Widths that fit: long texts are cut, then columns left out but the first four numbers, then texts cut and numbers left
    out as far as it takes.
    """
    fitted = list(widths)
    for least, kept in ((_SHORT, left + 4), (_LEAST, left + 1)):
        while (over := sum(fitted) + len(_GAP) * (len(fitted) - 1) - width) > 0:
            longest = max(range(left), key=lambda place: fitted[place])
            if fitted[longest] > least:
                others = [fitted[place] for place in range(left) if place != longest]
                step = fitted[longest] - max(least, *others) if others else over
                fitted[longest] = max(least, fitted[longest] - max(1, min(over, step)))
            elif len(fitted) > kept:
                fitted.pop()
            else:
                break
    return fitted


def _filled(text: str, width: int, to_the_left: bool) -> str:
    if cells_of(text) > width:
        text = _cut(text, width - 1) + "…"
    space = " " * (width - cells_of(text))
    return text + space if to_the_left else space + text


def _cut(text: str, width: int) -> str:
    """The beginning of a text that takes no more cells."""
    taken = 0
    for place, char in enumerate(text):
        taken += _cells(char)
        if taken > width:
            return text[:place]
    return text


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
    from batchrun.report.words import printable

    if cell is None:
        return "–"
    return f"{cell:,}".replace(",", " ") if isinstance(cell, int) else printable(str(cell)).replace("\n", " ")
