"""The question before much is asked again: to a person in a terminal; without one, a change of the job file is an answer."""

import sys

from batchrun.cli.table import say
from batchrun.errors import JobError
from batchrun.runner.changes import Change, Confirm
from batchrun.settings import TABLE

_KEPT = "nothing was sent, and the results are as they were"


def confirming(*, yes: bool, quiet: bool) -> Confirm:
    """What a run asks before it asks much again. It refuses by raising JobError; a `quiet` run says at least what it does."""

    async def confirm(change: Change) -> None:
        if quiet:  # it has been noted otherwise
            say(change.text)
        if yes:
            return
        if sys.stdin.isatty() and sys.stderr.isatty():
            if not await _said_yes():
                raise JobError(f"{_KEPT}; -o DIR asks into another directory")
        elif change.flags:
            given = ", ".join(TABLE[name].flag for name in change.flags)
            raise JobError(
                f"{given}: not as in the last call; {_KEPT}. Say --yes to ask again, or -o DIR to ask into another directory"
            )

    return confirm


async def _said_yes() -> bool:
    """Waits for the answer in the event loop, so that a signal ends the waiting too."""
    import anyio

    print("batchrun: ask them again? [y/N] ", end="", file=sys.stderr, flush=True)
    await anyio.wait_readable(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")
