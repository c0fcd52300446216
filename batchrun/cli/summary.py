"""`batchrun summary`: the cost summary as a table."""

import json
from typing import Annotated

import typer

EXAMPLES = "batchrun summary runs/reviews · batchrun summary runs/reviews --json | jq .total.cost_usd"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the cost summary."""
    from batchrun.cli.table import cost_table, prices_line
    from batchrun.errors import JobError
    from batchrun.ledger.run_dir import RunDir
    from batchrun.report.summary import read_summary

    summary = RunDir(run_dir).summary
    if not summary.exists():
        raise JobError(
            f"{run_dir}: no cost_summary.parquet yet; it is written when the run is complete (see batchrun status)"
        )
    rows = read_summary(summary)
    if as_json:
        print(json.dumps({"rows": rows[:-1], "total": rows[-1]}, default=str))
        return
    print(cost_table(rows))
    print(prices_line(rows[-1]))
