"""The records of a run (teller.py) in words: for the log, above the progress bar, for Python's `logging`."""

import datetime
import json
from typing import Any

from batchrun.moments import moment


def words(record: dict[str, Any]) -> str:
    """One record as a sentence; one of another version as it is."""
    what = {name: value for name, value in record.items() if name not in ("at", "event")}
    event = str(record.get("event"))
    try:
        return _words(event, what, record["at"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"{event}: {json.dumps(what)}"


def _words(event: str, what: dict[str, Any], at: str) -> str:
    """Raises KeyError and the like for a record that is not as this version writes it."""
    match event:
        case "started" | "resumed":
            after = ", after its process had died" if what.get("broke_off") else ""
            return f"{event}: {what['requests']} requests{after}"
        case "paused":
            long = f" for up to {clock(what['patience_s'])}" if what.get("patience_s", 0) > 0 else ""
            return f"paused, probing the endpoint{long}: {what['message']}"
        case "going on" if what["answered"]:
            return f"the endpoint answers again, after {clock(what['after_s'])}"
        case "going on":
            return f"no answer to the last rows for {clock(what['after_s'])}: they are asked to their end"
        case "waiting":
            return _waiting(what, at)
        case "limits learnt":
            return f"the endpoint allows {stated(what['limits'])} for {what['model']}: that is kept"
        case "limits dropped":
            units = " and ".join(unit.replace("_", " ") for unit in what["units"])
            return (
                f"the endpoint's counter of {units} for {what['model']} stands still while it answers: its limit is no "
                "longer kept"
            )
        case "fewer at once":
            more = "breaks off what it answers when more come" if what["broken"] else "refuses more"
            return (
                f"the endpoint takes about {what['places']} at once and {more}: that is kept; "
                f"next time use --concurrency {what['places']}"
            )
        case "model left":
            return (
                f"the endpoint does not answer for model {what['model']}, whose rows are left; the others go on: "
                f"{what['message']}"
            )
        case "held":
            return "paused by batchrun pause; batchrun resume lets it go on"
        case "released":
            return f"going on, by batchrun resume, after {clock(what['after_s'])}"
        case "limits set":
            return "set by batchrun set: " + ", ".join(f"{name} {value:g}" for name, value in what["limits"].items())
        case "retries":
            kinds = ", ".join(f"{count} × {kind}" for kind, count in what["kinds"].items())
            return f"asked again within {clock(what['seconds'])}: {kinds}"
        case "first failure":
            return f"first failure of its kind, {what['kind']}, in row {what['row']}: {what['message']}"
        case "draining":
            return f"stopping: waiting up to {what['grace_s']:g} s for {what['in_flight']} requests in flight"
        case "complete":
            return f"complete: {what['ok']} ok, {what['failed']} failed"
        case "stopped":
            return f"{what['message']} ({what['ok']} ok, {what['failed']} failed so far, exit {what['exit_code']})"
    return f"{event}: {json.dumps(what)}" if what else event


def _waiting(what: dict[str, Any], at: str) -> str:
    if what["seconds"] is not None:
        until = moment(datetime.datetime.fromisoformat(at).timestamp(), what["seconds"])
        more = ", with one probe now and then" if what.get("probed") else ""
        return f"the endpoint asks to wait {clock(what['seconds'])}, until {until}{more}: {what['message']}"
    spent = f"the quota of a {what['quota']} is spent" if what.get("quota") else "a quota is spent"
    return (
        f"{spent}; the endpoint does not say when it is renewed, so one probe is sent now and then: {what['message']}"
    )


def printable(text: str) -> str:
    """Text from an endpoint without what could steer a terminal: C0 and C1 controls, bidi overrides."""
    return "".join(
        char if char == "\n" or (char.isprintable() or char == " ") else f"\\x{ord(char):02x}" for char in text
    )


def stated(limits: dict[str, float]) -> str:
    """Limits as people read them: `500 requests and 200,000 tokens a minute`."""
    parts = [f"{limit:,.10g} {unit.replace('_', ' ')}" for unit, limit in limits.items()]
    return " and ".join(parts) + " a minute"


def clock(seconds: float) -> str:
    """Seconds as people read them: `1:02:03`, `4:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
