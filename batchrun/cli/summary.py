"""`batchrun summary`: the cost summary as a table."""

import json
from typing import Annotated

import typer

EXAMPLES = "batchrun summary runs/reviews · batchrun summary runs/reviews --json | jq .total.cost_usd"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the cost summary. Of a run that is under way or has stopped, that of the results there are."""
    from batchrun.cli.table import cost_table, prices_line, say
    from batchrun.report.summary import read_summary, summed
    from batchrun.runner.reading import Reading

    reading = Reading(run_dir)
    summary = reading.run_dir.summary
    is_whole = reading.state == "complete" and summary.exists()
    rows = read_summary(summary) if is_whole else summed(reading.results())
    if missing := 0 if is_whole else reading.requests - rows[-1]["requests"]:
        say(f"{missing} of {reading.requests} requests have no result yet: {reading.why_missing}")
    if as_json:
        shown = {"rows": rows[:-1], "total": rows[-1], "state": reading.state, "missing": missing}
        print(json.dumps(shown, default=str))
        return
    print(cost_table(rows))
    if rows[-1]["price_source"]:
        print(prices_line(rows[-1]))
