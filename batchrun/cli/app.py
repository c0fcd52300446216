"""The commands, gathered. Imports nothing heavy: `batchrun --help` answers at once."""

from typing import Annotated

import typer

from batchrun import __version__
from batchrun.cli import check, export, plan, report, run, serve, status, summary

EXIT_CODES = (
    "Exit codes: 0 every request is ok · 1 finished, some failed (their rows say why) · 2 nothing was sent: bad usage, "
    "job, input, output or environment · 3 stopped early by a guard, run the same command again · 130/143 interrupted "
    "by SIGINT/SIGTERM, run the same command again"
)

app = typer.Typer(
    name="batchrun",
    help="Bulk LLM completions that survive the night: JSONL, CSV or Parquet in, results and a bill out, resumable.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (run, plan, check, status, summary, report, export, serve):
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=f"Examples: {module.EXAMPLES}\n\n{EXIT_CODES}")(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"batchrun {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...
