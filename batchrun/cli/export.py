"""`batchrun export`: the results as Parquet, JSONL or CSV."""

from typing import Annotated

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun export runs/reviews reviews.csv · batchrun export runs/reviews reviews.jsonl"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Ending in .parquet, .jsonl or .csv.")],
    form: Annotated[str | None, typer.Option("--format", help="openai-batch (not yet supported).")] = None,
) -> None:
    """Write the results to another format; the ending of FILE chooses it."""
    from batchrun.ledger.run_dir import RunDir
    from batchrun.report.export import export

    if form is not None:
        raise JobError(f"--format {form}: understood but not yet supported; leave it out")
    found = RunDir(run_dir)
    if found.read_manifest() is None:
        raise JobError(f"{found.url}: no run there (no run.json); give a run directory")
    files = found.result_files()
    if not files:
        raise JobError(f"{run_dir}: no results yet; see batchrun status {run_dir}")
    rows = export(files, file)
    print(f"{rows} rows → {file}")
