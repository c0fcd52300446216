"""The flags that `run`, `plan` and `check` share; each overrides the job file's key of the same meaning."""

import json
from typing import Annotated, Any

import typer

from batchrun.errors import JobError

Source = Annotated[
    str, typer.Argument(help="A job.toml, or an input: a file, a directory or a glob of JSONL or Parquet.")
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="The endpoint; `embedded:` needs no key and no network.")
]
Model = Annotated[str | None, typer.Option("--model", help="The model to ask.")]
ApiKeyEnv = Annotated[
    str | None, typer.Option("--api-key-env", help="The variable that holds the key (default OPENAI_API_KEY).")
]
System = Annotated[str | None, typer.Option("--system", help="System prompt, a Jinja2 template.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="User prompt, a Jinja2 template over the row's columns.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="KEY=JSON", help="A request parameter, e.g. temperature=0.5.")
]
Stream = Annotated[bool | None, typer.Option("--stream/--no-stream", help="Ask for a streamed answer.")]
Samples = Annotated[int | None, typer.Option("--samples", help="Completions for each row and variant.")]
Concurrency = Annotated[str | None, typer.Option("--concurrency", metavar="N|auto", help="Requests in flight (64).")]
Rpm = Annotated[float | None, typer.Option("--rpm", help="Requests per minute, at most.")]
Tpm = Annotated[float | None, typer.Option("--tpm", help="Tokens per minute, at most.")]
Budget = Annotated[float | None, typer.Option("--budget", help="USD, at most (not yet supported).")]
MaxAttempts = Annotated[int | None, typer.Option("--max-attempts", help="Attempts for each request (8).")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds for a whole answer (600).")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first N rows.")]
Engine = Annotated[str | None, typer.Option("--engine", metavar="local|ray", help="Where to run (local).")]
OutputDir = Annotated[str | None, typer.Option("-o", "--output", help="The run directory (runs/NAME).")]


def settings(param: list[str] | None, concurrency: str | None, **others: Any) -> dict[str, Any]:
    """The flags as keywords of `batchrun.run`. Raises JobError for a flag that can't be read."""
    return {**others, "params": params(param or []), "concurrency": _concurrency(concurrency)}


def params(pairs: list[str]) -> dict[str, Any]:
    """KEY=JSON pairs; a value that isn't JSON is taken as text, so that `--param user=me` works without quotes."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise JobError(f"--param {pair!r}: write KEY=JSON, for example --param temperature=0.5")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            if value[:1] in ("{", "[", '"'):
                raise JobError(f"--param {key}: {value!r} is not valid JSON") from None
            found[key] = value
    return found


def _concurrency(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise JobError(f"--concurrency {text!r}: give a whole number or auto") from None
