"""The commands, gathered. Imports nothing heavy: `batchrun --help` answers at once."""

from typing import Annotated

import typer

from batchrun import __version__
from batchrun.cli import check, export, failures, log, ls, plan, report, run, serve, show, status, steer, summary

_UNWRAPPED = "\b\n"
"""What tells click to leave the lines of a paragraph as they are."""
EXIT_CODES = f"""{_UNWRAPPED}Exit codes:
  0    every request is ok
  1    finished, and some requests failed (their rows say why)
  2    nothing was sent: bad usage, job, input, output or environment
  3    stopped early by a guard; run the same command again
  130  interrupted by Ctrl-C (143: by SIGTERM); run the same command again
  70   a fault of batchrun itself; what was answered is kept"""


def examples(lines: str) -> str:
    """A command's examples for its help, one a line."""
    shown = "\n".join(f"  {line.strip()}" for line in lines.split(" · "))
    return f"{_UNWRAPPED}Examples:\n{shown}\n\n{EXIT_CODES}"


app = typer.Typer(
    name="batchrun",
    help="Bulk LLM completions that survive the night: JSONL, CSV or Parquet in, results and a bill out, resumable.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,  # --install-completion, --show-completion: bash, zsh, fish
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (run, plan, check, status, summary, failures, show, log, ls, report, export, serve):
    name = module.__name__.rpartition(".")[2]
    app.command(name, epilog=examples(module.EXAMPLES))(module.command)
for name, function in steer.COMMANDS.items():
    app.command(name, epilog=examples(steer.EXAMPLES[name]))(function)


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
