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
    from batchrun.report.progress import printable

    at = datetime.datetime.fromisoformat(record["at"])
    what = {name: value for name, value in record.items() if name not in ("at", "event")}
    try:
        text = _words(str(record.get("event")), what)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version
        text = f"{record.get('event')}: {json.dumps(what)}"
    return printable(f"{at.strftime('%Y-%m-%d %H:%M:%S %z')}  {text}".replace("\n", " "))


def _words(event: str, what: dict[str, Any]) -> str:
    """One event in words. Raises KeyError and the like for one that is not as this version writes it."""
    from batchrun.report.progress import clock, stated

    match event:
        case "started" | "resumed":
            after = ", after its process had died" if what.get("broke_off") else ""
            return f"{event}: {what['requests']} requests{after}"
        case "paused":
            return f"paused, probing the endpoint: {what['message']}"
        case "going on":
            how = (
                "the endpoint answers again" if what["answered"] else "no answer; the last rows are asked to their end"
            )
            return f"going on after {clock(what['after_s'])}: {how}"
        case "waiting":
            long = "until its quota is renewed" if what["seconds"] is None else clock(what["seconds"])
            return f"waiting {long}, as the endpoint asks: {what['message']}"
        case "limits learnt":
            return f"limits learnt: the endpoint allows {stated(what['limits'])} for {what['model']}"
        case "limits dropped":
            units = " and ".join(unit.replace("_", " ") for unit in what["units"])
            return (
                f"limits dropped: the endpoint's counter of {units} for {what['model']} stands still while it answers"
            )
        case "fewer at once":
            more = "breaks off what it answers when more come" if what["broken"] else "refuses more"
            return f"the endpoint takes about {what['places']} at once and {more}: that is kept"
        case "held":
            return "paused by batchrun pause"
        case "released":
            return f"going on after {clock(what['after_s'])}, by batchrun resume"
        case "limits set":
            return "set by batchrun set: " + ", ".join(f"{name} {value:g}" for name, value in what["limits"].items())
        case "retries":
            kinds = ", ".join(f"{count} × {kind}" for kind, count in what["kinds"].items())
            return f"asked again within {clock(what['seconds'])}: {kinds}"
        case "first failure":
            return f"first failure of its kind, {what['kind']}, in row {what['row']}: {what['message']}"
        case "draining":
            return f"told to stop: waiting up to {what['grace_s']:g} s for {what['in_flight']} requests in flight"
        case "complete":
            return f"complete: {what['ok']} ok, {what['failed']} failed"
        case "stopped":
            return f"{what['message']} ({what['ok']} ok, {what['failed']} failed so far, exit {what['exit_code']})"
    return f"{event}: {json.dumps(what)}" if what else event
