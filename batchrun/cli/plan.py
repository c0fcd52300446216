"""`batchrun plan`: what a run would do, and about what it would cost."""

import typer

from batchrun.cli import flags
from batchrun.cli.table import say
from batchrun.settings import Settings

EXAMPLES = "batchrun plan jobs/label_reviews.toml · batchrun plan reviews.jsonl --base-url … --model … --rpm 500"


@flags.takes_settings
def command(source: flags.Source, *, settings: Settings) -> None:
    """Say what would run, how long at least, and what it would cost. Sends and writes nothing."""
    from batchrun import api

    outlook = api.plan(source, on_note=say, **settings)
    lines = [
        ("endpoint", outlook.endpoint),
        ("output", outlook.path),
        ("rows", f"{outlook.rows}" + (f" ({outlook.bad_rows} bad, recorded as failed)" if outlook.bad_rows else "")),
        ("requests", f"{outlook.requests} ({outlook.variants} variants × {outlook.samples} samples a row)"),
        ("to be asked", f"{outlook.requests - outlook.done}" + (f" ({outlook.done} are done)" if outlook.done else "")),
        ("prompt tokens", f"about {outlook.prompt_tokens}"),
        ("answer tokens", _most(outlook.most_completion_tokens)),
        ("cost", _cost(outlook.prompt_usd, outlook.most_usd, outlook.price_source)),
        (
            "time",
            f"at least {outlook.at_least_s:.0f} s at the stated limits"
            if outlook.at_least_s
            else "as fast as it answers",
        ),
    ]
    print("\n".join(f"{name:<14} {value}" for name, value in lines))
    raise typer.Exit(0)


def _most(tokens: int | None) -> str:
    return "unknown: no max_tokens is set" if tokens is None else f"at most {tokens} (max_tokens of every request)"


def _cost(prompt_usd: float | None, most_usd: float | None, source: str | None) -> str:
    from batchrun.money import dollars, pico

    if prompt_usd is None:
        return 'unknown: no price for this model; give [prices."MODEL"] in the job'
    most = f", at most about {dollars(pico(most_usd))} with every answer at max_tokens" if most_usd is not None else ""
    return f"about {dollars(pico(prompt_usd))} for the prompts{most} ({source})"
