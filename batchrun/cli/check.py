"""`batchrun check`: send the first request once, of a sweep one for each model and set of parameters; show what came back."""

from typing import Any

import typer

from batchrun.cli import flags
from batchrun.cli.output import stdout_matters_less
from batchrun.records import StatedLimit
from batchrun.settings import Settings

EXAMPLES = "batchrun check jobs/relay.toml · batchrun check reviews.jsonl --base-url … --model …"

_SHOWN = 500
_WINDOWS = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour", 86400.0: "a day"}


@flags.takes_settings
def command(source: flags.Source, *, settings: Settings) -> None:
    """Send the first request once, of a sweep one for each model and set of parameters, 20 at most; show the first one and what
    came back, and a line for each. Writes nothing.
    """
    stdout_matters_less()
    from batchrun import api
    from batchrun.cli.table import say

    trial = api.check(source, on_note=say, **settings)
    _show(trial)
    trials = [trial, *trial.others]
    if trial.others:
        print("\n" + "\n".join(map(_line, trials)))
    failed = [one for one in trials if one.fault is not None]
    for one in failed:
        assert one.fault is not None
        of = f"{one.request.variant}: " if trial.others else ""
        say(f"{of}{one.fault.kind}: {one.fault.message}" + (f"; {one.remedy}" if one.remedy else ""))
    if failed:
        raise typer.Exit(3)


def _show(trial: Any) -> None:
    """A request and what came back, whole."""
    import msgspec

    from batchrun.report.words import printable
    from batchrun.wire.address import beside
    from batchrun.wire.outgoing import sent_body

    body = msgspec.json.format(sent_body(trial.request), indent=2).decode()
    print(f"POST {beside(trial.url, trial.request.path)}   (row {trial.request.row}, id {printable(trial.request.id)})")
    print(printable(body))
    answer = trial.answer
    if answer is None:
        if body := (trial.fault.body or "").replace("\r\n", "\n").strip():
            print(f"\n→ came back:\n{printable(body[:_SHOWN])}")
        return
    first = "" if answer.first_token_s is None else f", first token after {answer.first_token_s:.3f} s"
    print(f"\n→ answered in {answer.latency_s or 0:.3f} s{first}")
    usage = answer.usage
    for name, value in (
        ("model", answer.model),
        ("finish_reason", answer.finish_reason),
        ("limits", _limits(trial.limits)),
        ("usage", f"{usage.prompt} prompt + {usage.completion} completion = {usage.total} tokens ({usage.source})"),
        ("reasoning", answer.reasoning),
        ("refusal", answer.refusal),
        ("tool_calls", answer.tool_calls),
        ("completion", answer.completion),
        ("embeddings", _size(answer.embeddings)),
    ):
        if value is not None:
            print(f"{name:<14} {printable(value)}")


def _line(trial: Any) -> str:
    """What became of one request of a sweep."""
    from batchrun.report.words import printable

    if trial.answer is None:
        text = f"{trial.request.variant}: {trial.fault.kind}: {trial.fault.message}"
    else:
        usage = trial.answer.usage
        text = f"{trial.request.variant}: ok, {trial.answer.latency_s or 0:.3f} s, {usage.prompt} + {usage.completion} tokens"
    return printable(text.replace("\n", " "))


def _limits(limits: list[StatedLimit]) -> str | None:
    """What the endpoint states of its limits; over which time and for whom where their names say so."""
    parts = []
    for one in limits:
        window = "" if one.window_s is None else " " + _WINDOWS.get(one.window_s, f"in {one.window_s:g} s")
        left = "" if one.remaining is None else f" ({one.remaining:,.10g} left)"
        whose = f" for the {one.scope.replace('_', ' ')}" if one.scope else ""
        parts.append(f"{one.limit:,.10g} {one.unit.replace('_', ' ')}{window}{whose}{left}")
    return ", ".join(parts) + ", as the endpoint states" if parts else None


def _size(vectors: list[bytes] | None) -> str | None:
    """How many vectors there are, and of how many doubles each."""
    return f"{len(vectors)} of {len(vectors[0]) // 8} numbers" if vectors else None
