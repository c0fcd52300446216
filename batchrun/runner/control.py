"""Steering a run while it is under way: orders are looked for every second, carried out, and answered with what is in force."""

from collections.abc import Callable

import anyio
import anyio.to_thread
import msgspec

from batchrun.events import Hear, Held, Released, Steered
from batchrun.ledger import orders
from batchrun.ledger.orders import InForce, Order
from batchrun.ledger.run_dir import RunDir
from batchrun.runner.stack import Stack
from batchrun.runner.window import Window
from batchrun.stop import STEERED, Stop, StopSign
from batchrun.wire.descriptors import room_for

_LOOK_EVERY_S = 1.0
_STOP_CODE = 143
"""As of SIGTERM, which ends a run in the same way."""


class Control:
    """What obeys orders. `keep` is given the limits that are in force after one that changed them."""

    def __init__(
        self,
        run_dir: RunDir,
        stack: Stack,
        window: Window,
        stop: StopSign,
        hear: Hear,
        keep: Callable[[InForce], None],
        in_force: InForce,
    ) -> None:
        self._dir = run_dir
        self._stack = stack
        self._window = window
        self._stop = stop
        self._hear = hear
        self._keep = keep
        self.in_force = in_force

    async def run(self) -> None:
        """Look for orders until cancelled."""
        while True:
            for order in await anyio.to_thread.run_sync(orders.take, self._dir):
                before = self.in_force
                self.obey(order)
                if _limits(self.in_force) != _limits(before):
                    await anyio.to_thread.run_sync(self._keep, self.in_force)
                await anyio.to_thread.run_sync(orders.answer, self._dir, self.in_force)
            await anyio.sleep(_LOOK_EVERY_S)

    def obey(self, order: Order) -> None:
        """Carry one order out."""
        changes: dict[str, float] = {}
        if order.concurrency is not None and order.concurrency >= 1:
            changes["concurrency"] = room_for(order.concurrency)
            self._stack.limits.allow(room_for(order.concurrency))
            self._window.resize(room_for(order.concurrency))
        if order.requests_per_minute is not None and order.requests_per_minute > 0:
            changes["requests_per_minute"] = order.requests_per_minute
            self._stack.limits.allow_requests(order.requests_per_minute)
        if order.max_attempts is not None and order.max_attempts >= 1:
            changes["max_attempts"] = order.max_attempts
            self._stack.allow_attempts(order.max_attempts)
        if changes:
            self._hear(Steered(changes))
        hold = self._stack.hold
        if order.pause is True and not hold.on:
            hold.pause()
            self._hear(Held())
        elif order.pause is False and hold.on:
            self._hear(Released(hold.release()))
        if order.stop:
            self._stop.ask(Stop(STEERED, "stopped by batchrun stop; run the same command again to go on", _STOP_CODE))
        self.in_force = msgspec.structs.replace(
            self.in_force.with_order(order.number), **changes, paused=hold.on, stopping=self._stop.stop is not None
        )


def _limits(in_force: InForce) -> tuple[float | None, ...]:
    return in_force.concurrency, in_force.requests_per_minute, in_force.max_attempts
