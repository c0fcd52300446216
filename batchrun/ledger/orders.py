"""Orders to a run that is under way, and its answers: small files in its working state, for its owner alone.

An order is a file of its own, there whole or not at all, that the run takes away; it names the run that it is for, so that no
later one obeys it. What is in force stands in one file, with the numbers of the orders that were taken last.
"""

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.ledger import lock
from batchrun.ledger.durable import make_dir, write_whole
from batchrun.ledger.run_dir import RunDir

_ORDERS = "orders"
_ANSWER = "in-force.json"
_MOST_BYTES = 1 << 16
_MOST_KEPT = 50
_Kind = TypeVar("_Kind")


class Order(msgspec.Struct, frozen=True):
    """What a run is told: new limits, to `pause` or (False) to go on, to `stop`. `run` is who holds the run's lock, `number`
    the order's own.
    """

    run: str
    number: str
    concurrency: int | None = None
    requests_per_minute: float | None = None
    max_attempts: int | None = None
    pause: bool | None = None
    stop: bool = False


class InForce(msgspec.Struct, frozen=True):
    """What a run answers: the limits that it keeps, whether it is `paused` or `stopping`, and the orders it has taken."""

    concurrency: int
    requests_per_minute: float | None
    max_attempts: int
    paused: bool = False
    stopping: bool = False
    taken: tuple[str, ...] = ()

    def with_order(self, number: str) -> "InForce":
        return msgspec.structs.replace(self, taken=(*self.taken[-_MOST_KEPT:], number))


def give(run_dir: RunDir, order: Order) -> str:
    """Leave an order for the run that is under way; returns its number. Raises JobError where there is none, or where it is
    somebody else's.
    """
    try:
        owner = run_dir.state.stat().st_uid
    except OSError as error:
        raise JobError(f"{run_dir.url}: its working state can't be read here: {error.strerror}") from None
    if owner != os.geteuid():
        raise JobError(f"{run_dir.url}: the run is another user's, and only its owner may steer it")
    if not run_dir.locked_by_another():
        raise JobError(f"{run_dir.url}: no run is under way there; batchrun run goes on with it")
    number = f"{time.time_ns()}-{os.getpid()}"
    whole = msgspec.structs.replace(order, run=lock.holder(run_dir.state / "lock"), number=number)
    try:
        make_dir(run_dir.state / _ORDERS)
        write_whole(run_dir.state / _ORDERS / f"{number}.json", msgspec.json.encode(whole))
    except LedgerError as error:
        raise JobError(f"the order can't be left: {error}") from None
    return number


def take(run_dir: RunDir) -> list[Order]:
    """The orders for the run that holds the lock now, oldest first; they and all others are taken away."""
    holder = lock.holder(run_dir.state / "lock")
    found = []
    for path in sorted((run_dir.state / _ORDERS).glob("*.json")):
        order = _read(path, Order)
        if order is not None and order.run == holder:
            found.append(order)
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def answer(run_dir: RunDir, in_force: InForce) -> None:
    """Let others read what is in force. It is no matter if that can't be told."""
    with contextlib.suppress(LedgerError):
        write_whole(run_dir.state / _ANSWER, msgspec.json.encode(in_force))


def in_force(run_dir: RunDir) -> InForce | None:
    """What the run said last of what is in force, None where it has said nothing."""
    return _read(run_dir.state / _ANSWER, InForce)


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    """A file of ours; None where it is another's, no plain file, too long or damaged."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None
        return msgspec.json.decode(os.read(handle, _MOST_BYTES), type=kind)
    except (OSError, msgspec.DecodeError, ValueError):
        return None
    finally:
        os.close(handle)
