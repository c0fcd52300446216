"""`batchrun log`: what happened in a run, and when."""

import datetime
import json
import re
import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun log runs/reviews · batchrun log runs/reviews --since 3h · batchrun log runs/reviews --follow"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LOOK_AGAIN_S = 0.5


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="AGO", help="Only the last 45m, 3h, 2d; or since '2026-05-01 03:00'."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run under way ends.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout; with --follow one for each event.")
    ] = False,
) -> None:
    """Say what happened in a run and when: started, paused and why, retries, failures, limits, its end."""
    from batchrun.ledger.run_dir import RunDir
    from batchrun.report.log import following, records

    found = RunDir(run_dir)
    manifest = found.read_manifest()
    if manifest is None:
        raise JobError(f"{found.url}: no run there (no run.json); give a run directory")
    found = RunDir(run_dir, manifest.state_dir or None)
    first = None if since is None else _moment(since)
    if follow:
        said: Iterable[dict[str, Any]] = following(
            found, lambda: not found.locked_by_another(), lambda: time.sleep(_LOOK_AGAIN_S)
        )
    else:
        said = records(found)
    chosen = (one for one in said if first is None or datetime.datetime.fromisoformat(one["at"]) >= first)
    if as_json and not follow:
        print(json.dumps({"path": found.url, "events": list(chosen)}))
        return
    for one in chosen:
        print(json.dumps(one) if as_json else _line(one), flush=follow)


def _moment(since: str) -> datetime.datetime:
    """The moment that `--since` means. Raises JobError."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", since.strip())
    try:
        if ago is not None:
            return datetime.datetime.now().astimezone() - datetime.timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
        return datetime.datetime.fromisoformat(since.strip()).astimezone()
    except (ValueError, OverflowError):
        raise JobError(f"--since {since!r}: write 45m, 3h or 2d, or a time such as '2026-05-01 03:00'") from None


def _line(record: dict[str, Any]) -> str:
    from batchrun.report.words import printable, words

    at = datetime.datetime.fromisoformat(record["at"])
    return printable(f"{at.strftime('%Y-%m-%d %H:%M:%S %z')}  {words(record)}".replace("\n", " "))
