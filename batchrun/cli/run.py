"""`batchrun run`: run a job, or go on with it."""

import shlex
import sys
from typing import Annotated, Any, Literal

import msgspec
import typer

from batchrun.cli import flags
from batchrun.cli.output import stdout_matters_less
from batchrun.cli.table import cost_table, prices_line, say
from batchrun.events import Hear
from batchrun.settings import Settings

EXAMPLES = (
    "batchrun run jobs/quickstart.toml · "
    "batchrun run reviews.jsonl --base-url http://127.0.0.1:8000/v1 --model my-model --prompt 'Label: {{ text }}' · "
    "batchrun run job.toml --retry-failed · the same command again resumes"
)


@flags.takes_settings
def command(
    source: flags.Source,
    *,
    settings: Settings,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set the old run aside and start over.")] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Ask failed requests again; --retry-failed=KIND,… those of some kinds."),
    ] = False,
    retry_kinds: Annotated[str, typer.Option(flags.RETRY_KINDS, hidden=True)] = "",
    progress: Annotated[
        Literal["auto", "bar", "log", "json", "none"],
        typer.Option("--progress", help="What to show while it runs; json: a JSON line on stderr for each record."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="At the end one JSON object on stdout, no table.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask again what a change makes necessary, without a question.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors; no progress, no table.")] = False,
) -> None:
    """Run a job, or resume it: the same command again goes on where it stopped."""
    stdout_matters_less()
    from batchrun import api
    from batchrun.cli.confirm import confirming
    from batchrun.interrupts import ignore_the_rest
    from batchrun.report.following import Following
    from batchrun.report.progress import Progress

    mode = "none" if quiet else progress
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "log"
    following = Following() if mode == "json" else None  # notes come before there is anything to follow
    shown: list[Progress | Following] = []

    def listener(total: int, _prices: Any) -> Hear:
        shown.append(following or Progress(mode, total))
        return shown[0].hear

    def note(message: str) -> None:
        if following is not None:
            following.note(message)
        elif not quiet:
            say(message)

    try:
        outcome = api.run(
            source,
            fresh=fresh,
            retry_failed=retry_kinds or retry_failed,
            listener=listener,
            on_note=note,
            confirm=confirming(yes=yes, quiet=quiet),
            progress="none",
            signals=True,
            **settings,
        )
    finally:
        for one in shown:
            one.close()
    if outcome.exit_code > 128:
        ignore_the_rest()
    if outcome.message is not None and following is None:
        say(outcome.message)
        say(f"to go on: batchrun run {shlex.quote(outcome.path)}")
    if as_json:
        print(msgspec.json.encode(_told(outcome)).decode())
    elif not quiet and outcome.message is None:
        if outcome.requests:
            rows = outcome.rows
            print(cost_table(rows))
            if rows[-1]["unpriced"] and rows[-1]["price_source"]:
                say(prices_line(rows[-1]))
        if outcome.failed and outcome.held is not None:
            from batchrun.cli.failures import short_table
            from batchrun.report.failures import failed_in, grouped

            print(short_table(grouped(failed_in(outcome.held.results)), outcome.path))
        where = f" → {outcome.results_path}" if outcome.requests else ""
        print(f"{outcome.ok} ok, {outcome.failed} failed of {outcome.requests} requests{where}")
    raise typer.Exit(outcome.exit_code)


def _told(outcome: Any) -> dict[str, Any]:
    """What `--json` says of a call: paths as people give them, money in dollars, null where it is not known."""
    return {
        "path": outcome.path,
        "state": "complete" if outcome.message is None else "stopped",
        "exit_code": outcome.exit_code,
        "message": outcome.message,
        "requests": outcome.requests,
        "ok": outcome.ok,
        "failed": outcome.failed,
        "asked": outcome.asked,
        "cost_usd": outcome.cost_usd,
        "results": outcome.results_path or None,
        "summary": outcome.rows,
    }
