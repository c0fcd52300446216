"""`batchrun set`, `pause`, `resume` and `stop`: steer a run that is under way, from elsewhere."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from batchrun.errors import JobError

EXAMPLES = {
    "set": "batchrun set runs/reviews --concurrency 32 --rpm 500 · batchrun set runs/reviews",
    "pause": "batchrun pause runs/reviews",
    "resume": "batchrun resume runs/reviews",
    "stop": "batchrun stop runs/reviews",
}
_PATIENCE_S = 20.0
_LOOK_EVERY_S = 0.1
Dir = Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def change(
    run_dir: Dir,
    concurrency: Annotated[int | None, typer.Option("--concurrency", min=1, help="Requests in flight at most.")] = None,
    rpm: Annotated[float | None, typer.Option("--rpm", help="Requests a minute at most.")] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", min=1, help="Attempts for each request that has not failed yet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the limits of a run that is under way, and say what is in force; without a flag only that."""
    if rpm is not None and not 0 < rpm < float("inf"):
        raise JobError(f"--rpm {rpm:g}: give a number above 0; to send nothing, batchrun pause")
    _steer(run_dir, as_json=as_json, concurrency=concurrency, requests_per_minute=rpm, max_attempts=max_attempts)


def pause(run_dir: Dir, as_json: Json = False) -> None:
    """Let a run that is under way send nothing new until `batchrun resume`; what is in flight is waited for."""
    _steer(run_dir, as_json=as_json, pause=True)


def resume(run_dir: Dir, as_json: Json = False) -> None:
    """Let a run that was paused go on."""
    _steer(run_dir, as_json=as_json, pause=False)


def stop(run_dir: Dir, as_json: Json = False) -> None:
    """End a run that is under way as SIGTERM does: what is in flight is waited for, and the same command goes on."""
    _steer(run_dir, as_json=as_json, stop=True)


COMMANDS: dict[str, Callable[..., None]] = {"set": change, "pause": pause, "resume": resume, "stop": stop}


def _steer(run_dir: str, *, as_json: bool, **what: Any) -> None:
    """Leave an order, and wait until the run says what is in force."""
    from batchrun.cli.table import say
    from batchrun.ledger import orders
    from batchrun.ledger.run_dir import RunDir

    found = RunDir(run_dir)
    manifest = found.read_manifest()
    if manifest is None:
        raise JobError(f"{found.url}: no run there (no run.json); give a run directory")
    found = RunDir(run_dir, manifest.state_dir or None)
    number = orders.give(found, orders.Order("", "", **what))
    until = time.monotonic() + _PATIENCE_S
    while True:
        is_over = not found.locked_by_another()
        in_force = orders.in_force(found)
        if in_force is not None and number in in_force.taken:
            break
        if is_over:
            raise JobError(f"{found.url}: the run has ended meanwhile; see batchrun status {found.url}")
        if time.monotonic() > until:
            say("the run has not answered yet: it reads its input or writes its results; it obeys once it asks again")
            raise typer.Exit(3)
        time.sleep(_LOOK_EVERY_S)
    shown = {
        "concurrency": in_force.concurrency,
        "requests_per_minute": in_force.requests_per_minute,
        "max_attempts": in_force.max_attempts,
        "paused": in_force.paused,
        "stopping": in_force.stopping,
    }
    if as_json:
        print(json.dumps({"path": found.url, **shown}))
        return
    rate = "no limit of requests a minute"
    if in_force.requests_per_minute is not None:
        rate = f"{in_force.requests_per_minute:g} requests a minute"
    state = "stopping" if in_force.stopping else "paused" if in_force.paused else "going on"
    print(f"in force: concurrency {in_force.concurrency}, {rate}, max_attempts {in_force.max_attempts}; {state}")
