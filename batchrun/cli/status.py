"""`batchrun status`: how far a run is, also while it runs."""

import json
import sys
import time
from typing import Annotated, Any

import typer

EXAMPLES = "batchrun status runs/reviews · batchrun status runs/reviews --watch · batchrun status runs/reviews --json"

_WATCH_EVERY_S = 1.0
_HOME = "\x1b[H\x1b[2J"
"""What clears a terminal."""


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every second until the run ends.")
    ] = False,
) -> None:
    """Say how far a run is: requests done, pace, time left, failures by kind, money spent. Also while it runs."""
    from batchrun.report.status import read_status
    from batchrun.report.words import printable

    while True:
        status = read_status(run_dir)
        shown = json.dumps(status) if as_json else printable("\n".join(_lines(status)))
        if watch and not as_json and sys.stdout.isatty():
            shown = f"{_HOME}{shown}"
        print(shown, flush=watch)
        if not watch or status["state"] not in ("running", "paused"):
            return
        time.sleep(_WATCH_EVERY_S)


def _lines(status: dict[str, Any]) -> list[str]:
    from batchrun.money import pico, shown
    from batchrun.report.words import clock

    requests, done = status["requests"], status["done"]
    share = f"{100 * done / requests:.1f} %" if requests else "100 %"
    left = f", {requests - done} left" if requests > done else ""
    lines = [f"{status['state']}: {done}/{requests} requests done ({share}), {status['failed']} failed{left}"]
    if status["rate_per_s"] is not None:
        eta = f", about {clock(status['eta_s'])} left" if status["eta_s"] else ""
        minutes = round(status["rate_over_s"] / 60)
        over = f"last {minutes} minutes" if minutes > 1 else "last minute"
        lines.append(f"pace:     {status['rate_per_s']:.1f} requests/s over the {over}{eta}")
    if status["in_flight"]:
        what = "under way" if status["state"] in ("running", "paused") else "when it broke off; their answers are lost"
        lines.append(f"in flight: {status['in_flight']} {what}")
    if status["failed_by_kind"]:
        lines.append("failed:   " + ", ".join(f"{kind} {n}" for kind, n in sorted(status["failed_by_kind"].items())))
    if status["empty"]:
        said = ", ".join(f"finish_reason {reason} {n}" for reason, n in sorted(status["empty"].items()))
        lines.append(f"empty:    {sum(status['empty'].values())} of {status['ok']} answers ({said})")
    spent = None if status["spent_usd"] is None else pico(status["spent_usd"])
    lines.append(f"spent:    {shown(spent, status['unpriced'])}")
    if status["tokens"]:
        lines.append(f"tokens:   {status['tokens']:,}".replace(",", " "))
    if status["message"]:
        lines.append(status["message"])
    elif status["state"] == "interrupted":
        lines.append("its process has died; run the same command again to go on")
    return lines
