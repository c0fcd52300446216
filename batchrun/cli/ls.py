"""`batchrun ls`: the runs under a folder, and their state."""

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun ls · batchrun ls runs · batchrun ls --json | jq '.runs[] | select(.state != \"complete\")'"
_DEEP = 6


def command(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to look, also in folders below.")] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List the runs under a folder: their state, how far they are, what failed and what they cost. The latest come first."""
    from batchrun.cli.table import say, table, terminal_width
    from batchrun.errors import BatchrunError
    from batchrun.report.status import read_status

    if not Path(folder).is_dir():
        raise JobError(f"{folder}: no such folder")
    found: list[dict[str, Any]] = []
    for place in runs(folder):
        try:
            found.append(read_status(place))
        except BatchrunError as error:  # another user's, of a newer version, or damaged: the others are shown
            say(str(error))
    found.sort(key=lambda one: str(one["resumed_at"] or one["started_at"]), reverse=True)
    if as_json:
        print(json.dumps({"folder": folder, "runs": found}))
        return
    if not found:
        print(f"no runs under {folder}")
        return
    rows = [
        (one["path"], one["state"], _began(one), one["requests"], one["done"], one["failed"], _spent(one))
        for one in found
    ]
    head = ("run", "state", "began", "requests", "done", "failed", "cost USD")
    print(table(head, rows, left=3, width=terminal_width()))


def runs(folder: str) -> Iterator[str]:
    """The run directories under a folder, itself included; not those that were set aside in one."""
    for place, folders, files in os.walk(folder):
        depth = 0 if place == folder else len(Path(place).relative_to(folder).parts)
        if "run.json" in files and (Path(place) / ".state").is_dir():
            yield place.removeprefix("./")
            folders.clear()
        elif depth >= _DEEP:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _began(status: dict[str, Any]) -> str:
    return datetime.datetime.fromisoformat(status["started_at"]).astimezone().strftime("%Y-%m-%d %H:%M")


def _spent(status: dict[str, Any]) -> str | None:
    return None if status["spent_usd"] is None else f"{'≥ ' if status['unpriced'] else ''}{status['spent_usd']:.4f}"
