"""`batchrun plan`: what a run would do, and about what it would cost."""

import json
from typing import Annotated, Any

import typer

from batchrun.cli import flags
from batchrun.cli.table import say, table, terminal_width, variant_columns
from batchrun.settings import Settings

EXAMPLES = (
    "batchrun plan jobs/label_reviews.toml · batchrun plan reviews.jsonl --base-url … --model … --rpm 500 · "
    "batchrun plan runs/reviews --json"
)


@flags.takes_settings
def command(
    source: flags.Source,
    *,
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what would run, how long at least, and what it would cost: of what is left where a run has begun. Sends and writes
    nothing, and needs no key.
    """
    import msgspec

    from batchrun import api

    outlook = msgspec.to_builtins(api.plan(source, on_note=say, **settings))
    print(json.dumps(outlook) if as_json else "\n".join(_lines(outlook)))
    raise typer.Exit(0)


def _lines(outlook: dict[str, Any]) -> list[str]:
    bad, left = outlook["bad_rows"], outlook["left"]
    lines = [
        ("endpoint", outlook["endpoint"]),
        ("output", outlook["path"]),
        ("rows", f"{outlook['rows']}" + (f" ({bad} bad, recorded as failed)" if bad else "")),
        ("requests", f"{outlook['requests']} ({_of_a_row(outlook)} a row)"),
        ("to be asked", _left(outlook)),
    ]
    if left:
        at_least_s = outlook["at_least_s"]
        lines += [
            ("prompt tokens", f"about {outlook['prompt_tokens']}"),
            ("answer tokens", _most(outlook["most_completion_tokens"])),
            ("cost", _cost(outlook)),
            ("time", f"at least {at_least_s:.0f} s at the stated limits" if at_least_s else "as fast as it answers"),
        ]
    shown = [f"{name:<14} {value}" for name, value in lines]
    return [*shown, "", _table(outlook["each"])] if left and len(outlook["each"]) > 1 else shown


def _of_a_row(outlook: dict[str, Any]) -> str:
    counts = [(outlook[of], of) for of in ("variants", "samples")]
    return " × ".join(f"{count} {of.removesuffix('s') if count == 1 else of}" for count, of in counts)


def _left(outlook: dict[str, Any]) -> str:
    done, failed = outlook["done"], outlook["failed"]
    if not done:
        return str(outlook["left"])
    kept = f"{done} are done" + (f", {failed} of them failed: --retry-failed asks those again" if failed else "")
    return f"{outlook['left']} ({kept})" if outlook["left"] else f"0: nothing is left ({kept})"


def _most(tokens: int | None) -> str:
    return "unknown: no max_tokens is set" if tokens is None else f"at most {tokens} (max_tokens of every request)"


def _cost(outlook: dict[str, Any]) -> str:
    from batchrun.money import dollars, pico

    unpriced = ""
    if models := outlook["unpriced_models"]:
        named = ", ".join(models)
        unpriced = f'no price for {named} ({outlook["unpriced"]} requests); give [prices."{models[0]}"] in the job'
    if outlook["prompt_usd"] is None:
        return f"unknown: {unpriced}"
    most_usd = outlook["most_usd"]
    most = "" if most_usd is None else f", at most about {dollars(pico(most_usd))} with every answer at max_tokens"
    known = f"about {dollars(pico(outlook['prompt_usd']))} for the prompts{most} ({outlook['price_source']})"
    return f"{known}, and {unpriced}" if unpriced else known


def _table(each: list[dict[str, Any]]) -> str:
    """A line for each model in each variant; what a sweep varies has a column for each key."""
    columns, values = variant_columns([one["variant"] for one in each])
    rows = [
        (
            one["model"],
            *values(one["variant"]),
            one["left"],
            one["prompt_tokens"],
            one["most_completion_tokens"],
            _dollars(one["prompt_usd"], one),
            _dollars(one["most_usd"], one),
        )
        for one in each
    ]
    head = ("model", *columns, "to ask", "tok in", "tok out ≤", "prompts USD", "all USD ≤")
    return table(head, rows, left=1 + len(columns), width=terminal_width())


def _dollars(amount: float | None, one: dict[str, Any]) -> str | None:
    """A cell of money; one that lacks the price of some requests is no upper bound."""
    if amount is None:
        return None
    return f"{'≥ ' if one['unpriced'] else ''}{amount:.6f}"
