"""SIGINT, SIGTERM and SIGHUP for the length of a run (contract.md §3): the first one asks the run to end, a second one
makes it end at once. A signal that was ignored when the program began (`nohup`, `&` in a script) stays ignored.

One wish often comes as several signals: `timeout` signals its child and then the group, a shell that hangs up passes SIGHUP
on before the kernel sends another, a service manager sends SIGTERM and SIGHUP together. What comes within a second of the
first is the same wish; and a terminal that closes, however late, is never a person in a hurry.
"""

import signal
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus

from batchrun.stop import Stop, StopSign

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_WISH_S = 1.0
"""Signals that come within so many seconds of the first one mean what it meant."""


class Interrupts:
    """`scope` is around the run's steps. While `drains` is there, a signal asks it for a stop, a second wish for one at once;
    otherwise the scope is cancelled.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.scope = anyio.CancelScope()
        self.drains: StopSign | None = None
        self._first_at = 0.0

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for the others: SIGHUP is treated as SIGTERM."""
        return 128 + (signal.SIGINT if self.signal is signal.SIGINT else signal.SIGTERM)

    @property
    def message(self) -> str:
        name = "" if self.signal is None else self.signal.name
        return f"interrupted by {name}; run the same command again to go on"

    def take(self, received: signal.Signals) -> None:
        """Act on one signal. Called in the run's event loop, whose clock it reads."""
        now = anyio.current_time()
        if self.signal is not None:
            if received is not signal.SIGHUP and now - self._first_at > SAME_WISH_S:
                self._end_at_once()
            return
        self.signal, self._first_at = received, now
        if self.drains is None:
            self.scope.cancel()
        else:
            self.drains.ask(self._stop())

    def _end_at_once(self) -> None:
        if self.drains is None:
            self.scope.cancel()
        else:
            self.drains.ask_at_once(self._stop())

    def _stop(self) -> Stop:
        return Stop("signal", self.message, self.exit_code)


@asynccontextmanager
async def interruptible(
    wanted: Collection[signal.Signals], hears: Callable[[Interrupts], None] | None = None
) -> AsyncIterator[Interrupts]:
    """Listen to the wanted signals for as long as this lasts; a body that was cut short by one leaves quietly. `hears` is
    given what another thread may interrupt the body by.
    """
    interrupts = Interrupts()
    if hears is not None:
        hears(interrupts)
    if not wanted:
        with interrupts.scope:
            yield interrupts
        return

    async def listen(*, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(*wanted) as received:
            task_status.started()
            async for one in received:
                interrupts.take(one)

    fault: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        try:
            with interrupts.scope:
                yield interrupts
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the group that would wrap it
            fault = error
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault


def taken(signals: bool | None) -> list[signal.Signals]:
    """The signals that a run listens to: with True all that are not ignored, with None those that nobody else handles. None at
    all in a thread that gets none.
    """
    if signals is False or threading.current_thread() is not threading.main_thread():
        return []
    if signals:
        return [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    return [one for one in SIGNALS if signal.getsignal(one) in (signal.SIG_DFL, signal.default_int_handler)]


def ignore_the_rest() -> None:
    """Ignore what still comes to a process that ends by a signal and has nothing left to do: its exit code says so. Ctrl-C
    alone is heard, by somebody whose terminal takes no more of what is said.
    """
    for one in SIGNALS:
        if one is not signal.SIGINT:
            signal.signal(one, signal.SIG_IGN)
