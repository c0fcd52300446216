"""`batchrun status`: how far a run is, also while it runs."""

import json
from typing import Annotated

import typer

EXAMPLES = "batchrun status runs/reviews · batchrun status runs/reviews --json"


def command(
    run_dir: Annotated[str, typer.Argument(metavar="DIR", help="The run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say how far a run is."""
    from batchrun.ledger.status import read_status

    status = read_status(run_dir)
    if as_json:
        print(json.dumps(status))
        return
    left = status["requests"] - status["done"]
    print(
        f"{status['state']}: {status['done']}/{status['requests']} requests done, {status['failed']} failed, {left} left"
    )
    if status["message"]:
        from batchrun.progress import printable

        print(printable(status["message"]))
