"""`batchrun export`: the results as Parquet, JSONL or CSV."""

from typing import Annotated

import typer

from batchrun.errors import JobError

EXAMPLES = (
    "batchrun export runs/reviews reviews.csv · batchrun export runs/reviews reviews.jsonl · "
    "batchrun export runs/reviews good.csv --where \"status = 'ok'\" --columns id,text,completion"
)


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Ending in .parquet, .jsonl or .csv; may be in a bucket.")
    ],
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="EXPR", help="Only results that a condition on columns holds for."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B,…", help="Only these columns, in this order.")
    ] = None,
    spreadsheet: Annotated[
        bool,
        typer.Option("--spreadsheet", help="CSV that Excel and its like open safely: no formulas, marked as UTF-8."),
    ] = False,
    form: Annotated[str | None, typer.Option("--format", help="openai-batch (not yet supported).")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept that results are still missing: exit 0 all the same.")
    ] = False,
) -> None:
    """Write the results to another format; the ending of FILE chooses it. Also of a run that is under way or has stopped:
    then what is missing is said, and the exit code is 1.
    """
    from batchrun.cli.table import say
    from batchrun.report.chosen import Chosen
    from batchrun.runner.reading import Reading

    if form is not None:
        raise JobError(f"--format {form}: understood but not yet supported; leave it out")
    reading = Reading(run_dir)
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    rows, there = reading.export(file, Chosen(where, names), spreadsheet=spreadsheet)
    of = f" of {there}" if where is not None else ""
    print(f"{rows}{of} rows → {file}")
    if missing := reading.requests - there:
        say(f"{missing} of {reading.requests} requests have no result yet: {reading.why_missing}")
        raise typer.Exit(0 if partial else 1)
