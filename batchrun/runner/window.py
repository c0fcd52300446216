"""The window: the requests of open shards, asked directly, so many at a time, in input order.

The window is wider than the requests in flight: a request that backs off keeps its place in the window and none on the
wire. Never one task a row, never all rows in memory. Knows neither HTTP nor Parquet.
"""

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from batchrun.errors import BatchrunError, EndpointError
from batchrun.events import Done, Hear
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.records import Complete, Request
from batchrun.runner.backlog import Backlog
from batchrun.runner.results import answered, failed
from batchrun.stop import Stop, Stopped, StopSign

_WITNESS_EVERY_S = 3.0
_WITNESSES_AT_ONCE = 8
_LOOK_AGAIN_S = 0.5
_TRUST = 8
"""So many more are asked after each answer, while the window is full of requests that wait to be asked again."""
_MOST_MORE = 4096


def widened(concurrency: int) -> int:
    """How many requests may be in progress for so many in flight."""
    return concurrency + min(max(16, concurrency // 2), 512)


class Window:
    """An Asker: `complete` is the whole stack, `flying` says how many of its attempts are on the wire, `resting` how many of its
    requests wait to be asked again.
    """

    def __init__(
        self,
        complete: Complete,
        flying: Callable[[], int],
        resting: Callable[[], int],
        backlog: Backlog,
        ledger: Ledger,
        stop: StopSign,
        hear: Hear,
        concurrency: int,
    ) -> None:
        self._complete = complete
        self._flying = flying
        self._resting = resting
        self._backlog = backlog
        self._ledger = ledger
        self._stop = stop
        self._hear = hear
        self._concurrency = concurrency
        self._width = widened(concurrency)
        self._open: dict[int, OpenShard] = {}
        self._done: dict[int, anyio.Event] = {}
        self._left: dict[int, int] = {}
        self._hungry = anyio.Event()
        self._beside = self._more = self._trust = 0
        self._workers = 0
        self._tasks: TaskGroup | None = None

    @property
    def in_flight(self) -> int:
        return self._flying()

    async def wanted(self) -> None:
        while len(self._backlog) >= self._width and not self._backlog.is_short:
            self._hungry = anyio.Event()
            await self._hungry.wait()
        self._backlog.is_short = False

    async def ask(self, opened: OpenShard) -> None:
        number = opened.shard.info.number
        self._open[number], self._done[number] = opened, anyio.Event()
        self._backlog.extend(opened.left)
        opened.left = []
        await self._done[number].wait()
        del self._open[number], self._done[number]
        self._left.pop(number, None)

    def end(self) -> None:
        self._backlog.end()

    async def run(self) -> None:
        """Ask until nothing is left, or the run is told to stop."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_scouts, tasks)
            tasks.start_soon(self._send_witnesses)
            tasks.start_soon(self._send_more, tasks)
            self._tasks = tasks
            self._fill_up()

    def resize(self, concurrency: int) -> None:
        """From now on so many are in flight at most; where that is fewer, who is at work finishes its request."""
        self._concurrency, self._width = concurrency, widened(concurrency)
        if self._workers:  # else it is over
            self._fill_up()
        self._hungry.set()

    def _fill_up(self) -> None:
        assert self._tasks is not None
        while self._workers < self._width:
            self._workers += 1
            self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        try:
            await self._work_on()
        finally:
            self._workers -= 1

    async def _work_on(self) -> None:
        while self._stop.stop is None and self._workers <= self._width:
            if self._backlog.has_next:
                await self._one(self._next())
            elif self._backlog.complete:
                return
            else:
                await self._backlog.changed.wait()

    def _next(self) -> Request:
        request = self._backlog.pop()
        if len(self._backlog) < self._width:
            self._hungry.set()
        return request

    async def _send_scouts(self, tasks: TaskGroup) -> None:
        """Ask beside the others what the backlog wants to be asked out of turn."""
        while not (self._backlog.is_last and not len(self._backlog)):
            changed = self._backlog.changed
            self._hungry.set()
            while (request := self._backlog.pop_out_of_turn()) is not None:
                tasks.start_soon(self._one_beside, request)
            await changed.wait()

    async def _one_beside(self, request: Request) -> None:
        self._beside += 1
        try:
            await self._one(request)
        finally:
            self._beside -= 1

    async def _send_witnesses(self) -> None:
        """While rows that stand together fail, have one far ahead asked every now and then."""
        while not self._backlog.is_last:
            changed = self._backlog.changed
            while self._backlog.witnesses and self._stop.stop is None:
                if self._beside < _WITNESSES_AT_ONCE:
                    self._backlog.witnesses -= 1
                    self._backlog.scout()
                await anyio.sleep(_WITNESS_EVERY_S)
            await changed.wait()

    async def _send_more(self, tasks: TaskGroup) -> None:
        """Where those in progress wait to be asked again and leave the wire idle, have others asked, as long as some of those
        are answered: that is what tells rows that nobody would answer from an outage.
        """
        while not self._backlog.is_last:
            at_work = self._workers + self._beside + self._more - self._resting()
            room = min(self._concurrency - at_work, self._trust, _MOST_MORE - self._more)
            while room > 0 and self._backlog.has_next and self._stop.stop is None:
                room, self._trust, self._more = room - 1, self._trust - 1, self._more + 1
                tasks.start_soon(self._one_more, self._next())
            await anyio.sleep(_LOOK_AGAIN_S)

    async def _one_more(self, request: Request) -> None:
        try:
            await self._one(request)
        finally:
            self._more -= 1

    async def _one(self, request: Request) -> None:
        opened = self._open[request.shard]
        try:
            if request.key in opened.tallies:
                self._backlog.seen_before()
            try:
                answer = await self._complete(request)
            except EndpointError as error:
                result = failed(request, error, opened.tallies.get(request.key))
            else:
                result = answered(request, answer, opened.tallies[request.key])
                self._trust = _TRUST
            is_full = self._ledger.record(opened, result)
        except Stopped:
            if self._stop.stop is None:
                self._leave(opened)
            return
        except BatchrunError as error:
            self._stop.ask(Stop("disk", str(error)))
            return
        self._hear(Done(result))
        if is_full or opened.pending == self._left.get(request.shard):
            self._done[request.shard].set()

    def _leave(self, opened: OpenShard) -> None:
        """A request stays to be done, though the run goes on."""
        number = opened.shard.info.number
        self._left[number] = self._left.get(number, 0) + 1
        if opened.pending == self._left[number]:
            self._done[number].set()
