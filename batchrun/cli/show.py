"""`batchrun show`: one row's requests: the prompt as sent, every attempt that is known, and the answer."""

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from batchrun.errors import JobError

EXAMPLES = "batchrun show runs/reviews 17 · batchrun show runs/reviews r017 · batchrun show runs/reviews 17 --json"
_ANSWER = ("completion", "parsed", "refusal", "reasoning", "tool_calls", "response")
_FACTS = ("finish_reason", "model", "endpoint", "prompt_tokens", "completion_tokens", "cost_usd", "response_id")


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    row: Annotated[str, typer.Argument(metavar="ROW", help="The row's number (from 0), or its id.")],
    by_id: Annotated[bool, typer.Option("--id", help="ROW is an id, also where it is a number.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show one row's requests: the prompt as sent, every attempt that is known, and the answer. Also while the run is under
    way.
    """
    from batchrun.report.words import printable
    from batchrun.runner.card import cards

    found = cards(run_dir, row, by_id=by_id)
    if not found:
        raise JobError(f"{run_dir}: no row {row}, neither as a number nor as an id")
    if as_json:
        print(json.dumps({"path": run_dir, "requests": [one.shown() for one in found]}, default=str))
        return
    print(printable("\n\n".join("\n".join(_lines(one)) for one in found)))


def _lines(card: Any) -> Iterator[str]:
    called = "" if card.id == str(card.row) else f", id {card.id}"
    yield f"row {card.row}{called}, variant {card.variant}, sample {card.sample}: {card.status}"
    yield ""
    yield from _prompt(card)
    if card.attempts:
        yield "attempts"
        yield from (f"  {one}" for one in card.attempts)
    result = card.result
    if result is None:
        return
    if result["started_at"] is not None and result["latency_s"] is not None:
        yield f"  the last one began {_local(result['started_at'])} and took {result['latency_s']:.3f} s"
    if result["error_kind"] is not None:
        yield f"failed: {result['error_kind']}: {result['error_message']}"
    yield from _answer(result)


def _prompt(card: Any) -> Iterator[str]:
    if card.messages is None:
        yield f"prompt: not known: {card.lacks}"
        return
    yield "prompt" if card.is_as_sent else "prompt, as the job and the input make it now; what was sent was another"
    for message in card.messages:
        content = message.get("content") if isinstance(message, Mapping) else message
        role = message.get("role", "?") if isinstance(message, Mapping) else "input"
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        yield f"  [{role}] " + text.replace("\n", "\n  ")
    if card.parameters:
        yield "  with " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in card.parameters.items())


def _answer(result: Mapping[str, Any]) -> Iterator[str]:
    facts = [f"{name} {result[name]}" for name in _FACTS if result.get(name) is not None]
    if facts:
        yield "answer: " + ", ".join(facts)
    for name in _ANSWER:
        if (value := result.get(name)) is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"  {name}: " + text.replace("\n", "\n  ")


def _local(moment: str) -> str:
    return datetime.datetime.fromisoformat(moment).astimezone().isoformat(" ", "seconds")
