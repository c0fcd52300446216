"""Shards under way: opened, handed to whoever asks their requests, synced, and sealed when every request has its result.

Knows neither how requests are asked nor what files look like. The same loop serves the window of direct requests, a
provider's batch, and a worker on another machine.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import anyio
import anyio.to_thread

from batchrun.errors import BatchrunError, JobError
from batchrun.events import Done, Draining, Hear
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.records import Request, Result, Shard, ShardInfo
from batchrun.stop import Stop, StopSign

_SYNC_AFTER_S = 0.2
"""So long after something was recorded it is synced, with all that came since."""
_OPEN_SHARDS = 16
_POLL_S = 0.05

Load = Callable[[ShardInfo], tuple[Shard, list[Request], list[Result]]]
"""A shard with its requests, and the results of rows that none can be made of. Called in a thread."""


class Asker(Protocol):
    """Gets the requests of shards their results."""

    @property
    def in_flight(self) -> int:
        """Requests on the wire, that are waited for when the run is told to stop."""

    async def wanted(self) -> None:
        """Return when the requests of one more shard can be taken."""

    async def ask(self, opened: OpenShard) -> None:
        """Return when each of a shard's `left` requests has its result in the ledger, or is left for another call."""

    def end(self) -> None:
        """No more shards will come."""


class ShardLoop:
    """One pass over shards. `grace_s` is what requests in flight are given when the run is told to stop."""

    def __init__(self, load: Load, ledger: Ledger, asker: Asker, stop: StopSign, hear: Hear, grace_s: float) -> None:
        self._load = load
        self._ledger = ledger
        self._asker = asker
        self._stop = stop
        self._hear = hear
        self._grace_s = grace_s
        self._places = anyio.Semaphore(_OPEN_SHARDS)
        self._one_seal = anyio.Lock()
        self._sealing = 0

    async def run(self, infos: Iterable[ShardInfo]) -> None:
        """Get every request of these shards its result. Returns early when the run is told to stop: then `stop` says why."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_stopped, tasks.cancel_scope)
            tasks.start_soon(self._sync_loop)
            async with anyio.create_task_group() as work:
                with self.stopping():
                    for info in infos:
                        await self._places.acquire()
                        await self._asker.wanted()
                        if self._stop.stop is not None:
                            break
                        shard, requests, unusable = await anyio.to_thread.run_sync(self._load, info)
                        opened, refused = self._ledger.open(shard, requests, unusable)
                        for result in refused:
                            self._hear(Done(result, asked=False))
                        work.start_soon(self._through, opened)
                self._asker.end()
            tasks.cancel_scope.cancel()

    async def _through(self, opened: OpenShard) -> None:
        with self.stopping():
            if opened.left:
                await self._asker.ask(opened)
            if opened.pending:  # what is left of it is asked in another call
                await anyio.to_thread.run_sync(self._ledger.leave, opened)
                self._places.release()
                return
            self._sealing += 1
            try:
                async with self._one_seal:
                    await anyio.to_thread.run_sync(self._ledger.seal, opened)
            finally:
                self._sealing -= 1
            self._places.release()

    async def _sync_loop(self) -> None:
        with self.stopping():
            while True:
                await self._ledger.recorded()
                await anyio.sleep(_SYNC_AFTER_S)
                await self._ledger.sync()

    async def _end_when_stopped(self, scope: anyio.CancelScope) -> None:
        """End the pass when the run is told to stop, once nothing is in flight or the grace has passed."""
        await self._stop.asked.wait()
        if self._asker.in_flight:
            self._hear(Draining(self._asker.in_flight, self._grace_s))
        with anyio.move_on_after(self._grace_s):
            while self._asker.in_flight and not self._stop.at_once.is_set():
                await anyio.sleep(_POLL_S)
        while self._sealing and not self._stop.at_once.is_set():
            await anyio.sleep(_POLL_S)
        scope.cancel()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """A fault of the disk or the input ends the run: nothing new is sent, but what is in flight is paid for, and may yet
        be kept.
        """
        try:
            yield
        except BatchrunError as error:
            kind = "input" if isinstance(error, JobError) else "disk"
            self._stop.ask(Stop(kind, str(error)))
