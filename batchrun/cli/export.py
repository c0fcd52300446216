"""`batchrun export`: the results as Parquet, JSONL or CSV."""

from typing import Annotated

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun export runs/reviews reviews.csv · batchrun export runs/reviews reviews.jsonl"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Ending in .parquet, .jsonl or .csv; may be in a bucket.")
    ],
    form: Annotated[str | None, typer.Option("--format", help="openai-batch (not yet supported).")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept that results are still missing: exit 0 all the same.")
    ] = False,
) -> None:
    """Write the results to another format; the ending of FILE chooses it. Also of a run that is under way or has stopped:
    then what is missing is said, and the exit code is 1.
    """
    from batchrun.cli.table import say
    from batchrun.runner.reading import Reading

    if form is not None:
        raise JobError(f"--format {form}: understood but not yet supported; leave it out")
    reading = Reading(run_dir)
    rows = reading.export(file)
    print(f"{rows} rows → {file}")
    if missing := reading.requests - rows:
        say(f"{missing} of {reading.requests} requests have no result yet: {reading.why_missing}")
        raise typer.Exit(0 if partial else 1)
