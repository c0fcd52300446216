"""`batchrun serve`: the embedded endpoint as a server on loopback."""

import ipaddress
import os
import sys
from typing import Annotated, Literal

import typer

from batchrun.errors import JobError

EXAMPLES = (
    "batchrun serve --port 8000 · batchrun serve --first-token 0.3 --tokens-per-s 50 --slots 8 · "
    "batchrun serve --rpm 600 --faults faults.json"
)


def command(
    host: Annotated[str, typer.Option("--host", help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8000,
    model: Annotated[list[str] | None, typer.Option("--model", help="Serve only these models (repeatable).")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Accept only the key in this variable (default: any, or none).")
    ] = None,
    first_token: Annotated[float, typer.Option("--first-token", help="Seconds to the first token.")] = 0.0,
    tokens_per_s: Annotated[float, typer.Option("--tokens-per-s", help="Speed of one answer; 0: at once.")] = 0.0,
    slots: Annotated[int, typer.Option("--slots", help="Answers generated at the same time; 0: no limit.")] = 0,
    rpm: Annotated[int, typer.Option("--rpm", help="Requests per minute; over it: 429.")] = 0,
    tpm: Annotated[int, typer.Option("--tpm", help="Tokens per minute; over it: 429.")] = 0,
    tokenizer: Annotated[
        Literal["bytes", "words"],
        typer.Option("--tokenizer", help="Count tokens as clients estimate them (bytes), or otherwise (words)."),
    ] = "bytes",
    faults: Annotated[
        str | None, typer.Option("--faults", help="A script of faults: a JSON file, or the text itself.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", help="Append a JSON line for each request to this file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Chooses other answers.")] = 0,
) -> None:
    """Serve chat completions on loopback. A stand-in for tests and first steps; it is no language model."""
    from batchrun.embedded import Behaviour, parse_faults
    from batchrun.embedded.server import run_server

    if not _loopback(host):
        raise JobError(f"--host {host}: the embedded endpoint serves loopback only; give 127.0.0.1 or ::1")
    key = None
    if api_key_env is not None:
        key = os.environ.get(api_key_env)
        if not key:
            from batchrun.job import may_be_secret

            shown = "" if may_be_secret(api_key_env) else f" {api_key_env}"
            raise JobError(f"the variable{shown} (--api-key-env) is not set; give the name of one that holds the key")
    try:
        behaviour = Behaviour(
            models=tuple(model or ()),
            api_key=key,
            first_token_s=first_token,
            tokens_per_s=tokens_per_s,
            slots=slots,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            tokenizer=tokenizer,
            faults=parse_faults(faults or ""),
            seed=seed,
        )
    except (ValueError, OSError) as error:
        raise JobError(f"serve: {error}") from None

    def ready(base_url: str) -> None:
        print(f"serving on {base_url}  (Ctrl-C stops; {base_url.removesuffix('/v1')}/stats counts)", flush=True)

    try:
        run_server(behaviour, host=host, port=port, ledger=ledger, on_ready=ready)
    except OSError as error:
        raise JobError(f"cannot serve on {host}:{port}: {error.strerror or error}; choose another --port") from None
    sys.stdout.flush()


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
