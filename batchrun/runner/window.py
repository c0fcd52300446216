"""The runner: shards → requests → Complete → ledger, in a bounded window. Knows neither HTTP nor Parquet.

The window is wider than the requests in flight: a request that backs off keeps its place in the window and none on the
wire. Never one task a row, never all rows in memory.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from batchrun.clock import Clock
from batchrun.errors import BatchrunError, EndpointError
from batchrun.ledger.journal import Key, Tally
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.pace.guard import Guard, Stopped
from batchrun.records import Answer, Complete, Request, Result, Shard, ShardInfo
from batchrun.runner.observer import Observer
from batchrun.runner.results import answered, failed

_SYNC_EVERY_S = 0.2
_OPEN_SHARDS = 16
_POLL_S = 0.05
_FEW = 20
"""So few rows may be refused for good like a wrong key; with more left it is the key."""


def widened(concurrency: int) -> int:
    """How many requests may be in progress for so many in flight."""
    return concurrency + min(max(16, concurrency // 2), 512)


class Runner:
    """One pass over the shards that are not sealed.

    `read` loads a shard and `build` makes its requests, and the results of rows that can't be asked (both in a thread).
    `stack` wraps the announced client call with pacing and retrying, `ceiling` is the most that an attempt may cost.
    """

    def __init__(
        self,
        *,
        read: Callable[[ShardInfo], Shard],
        build: Callable[[Shard], tuple[list[Request], list[Result]]],
        client: Complete,
        stack: Callable[[Complete], Complete],
        guard: Guard,
        in_flight: Callable[[], int],
        ledger: Ledger,
        ceiling: Callable[[Request], int | None],
        endpoint: str,
        concurrency: int,
        clock: Clock,
        observer: Observer,
        grace_s: float,
    ) -> None:
        self._read = read
        self._build = build
        self._client = client
        self._complete = stack(self._announced)
        self._guard = guard
        self._in_flight = in_flight
        self._ledger = ledger
        self._ceiling = ceiling
        self._endpoint = endpoint
        self._window = widened(concurrency)
        self._clock = clock
        self._observer = observer
        self._grace_s = grace_s
        self._ready: collections.deque[tuple[OpenShard, Request]] = collections.deque()
        self._shards: dict[Key, OpenShard] = {}
        self._started: dict[Key, int] = {}
        self._begun = 0
        self._again = False
        self._news = anyio.Event()
        self._hungry = anyio.Event()
        self._fed = False
        self._open = 0
        self._full: collections.deque[OpenShard] = collections.deque()
        self._sealable = anyio.Event()
        self._failure: BatchrunError | None = None
        self._scope = anyio.CancelScope()
        self._tasks: TaskGroup | None = None
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Start nothing new, let those in flight finish within the grace, then return from `run`."""
        self._stopping.set()

    def stop_now(self) -> None:
        """End at once; what is in flight is lost, and asked again another time."""
        self._scope.cancel()

    def is_last_again(self) -> bool:
        """Whether this call had few requests to ask, which are all in progress, and an earlier one asked some in vain."""
        return self.is_last() and self._begun <= _FEW and self._again

    def is_last(self) -> bool:
        """Whether every request that is left is in progress."""
        return self._fed and not self._ready

    def scout(self) -> None:
        """Ask the request that stands farthest ahead, beside the others: rows that nobody would answer stand together."""
        if self._ready and self._tasks is not None and not self._stopping.is_set():
            self._tasks.start_soon(self._ask, *self._taken(self._ready.pop()))

    async def run(self, infos: Iterable[ShardInfo]) -> None:
        """Ask every request of these shards. Returns early when stopped; raises BatchrunError when the disk failed, or the
        input is another than it was.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            with self._scope:
                tasks.start_soon(self._sync_loop)
                async with anyio.create_task_group() as work:
                    self._tasks = work
                    work.start_soon(self._feed, iter(infos))
                    work.start_soon(self._seal_loop)
                    for _ in range(self._window):
                        work.start_soon(self._work)
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _feed(self, infos: Iterable[ShardInfo]) -> None:
        with self._guarded():
            for info in infos:
                while len(self._ready) >= self._window or self._open >= _OPEN_SHARDS:
                    self._hungry = anyio.Event()
                    await self._hungry.wait()
                if self._stopping.is_set():
                    break
                shard, requests, unusable = await anyio.to_thread.run_sync(self._load, info)
                opened, done = self._ledger.open(shard, requests, unusable)
                self._open += 1
                for result in done:
                    self._observer.result(result, stored=True)
                if not opened.left:
                    self._finished(opened)
                self._ready.extend((opened, request) for request in opened.left)
                opened.left = []
                self._news.set()
        self._fed = True
        self._news.set()
        self._sealable.set()

    def _load(self, info: ShardInfo) -> tuple[Shard, list[Request], list[Result]]:
        shard = self._read(info)
        return shard, *self._build(shard)

    async def _work(self) -> None:
        while not self._stopping.is_set():
            if not self._ready:
                if self._fed:
                    return
                self._news = anyio.Event() if self._news.is_set() else self._news
                self._hungry.set()
                await self._news.wait()
                continue
            await self._ask(*self._taken(self._ready.popleft()))

    def _taken(self, ready: tuple[OpenShard, Request]) -> tuple[OpenShard, Request]:
        if len(self._ready) < self._window:
            self._hungry.set()
        return ready

    async def _ask(self, opened: OpenShard, request: Request) -> None:
        with self._guarded(), contextlib.suppress(Stopped):
            await self._one(opened, request)

    async def _one(self, opened: OpenShard, request: Request) -> None:
        key = request.key
        self._shards[key] = opened
        self._begun += 1
        self._again = self._again or key in opened.tallies
        try:
            try:
                answer = await self._complete(request)
            except EndpointError as error:
                tally = opened.tallies.get(key) or Tally()
                result = failed(request, error, tally, self._endpoint, self._started.get(key))
            else:
                result = answered(request, answer, opened.tallies[key], self._endpoint, self._started.get(key))
        finally:
            del self._shards[key]
            self._started.pop(key, None)
        if self._ledger.record(opened, result):
            self._finished(opened)
        self._observer.result(result, stored=False)
        self._check_space()

    async def _announced(self, request: Request) -> Answer:
        """The client's attempt, told to the journal before it goes on the wire and after it failed."""
        if self._stopping.is_set():
            raise Stopped
        opened = self._shards[request.key]
        self._started[request.key] = int(self._clock.epoch() * 1e6)
        self._ledger.sent(opened, request, self._ceiling(request))
        self._check_space()
        try:
            return await self._client(request)
        except EndpointError as error:
            self._ledger.lost(opened, request.key, error.unconfirmed, error.kind, error.cost)
            raise

    def _finished(self, opened: OpenShard) -> None:
        self._full.append(opened)
        self._sealable.set()

    async def _seal_loop(self) -> None:
        with self._guarded():
            while True:
                while self._full:
                    await anyio.to_thread.run_sync(self._ledger.seal, self._full.popleft())
                    self._open -= 1
                    self._hungry.set()
                if self._fed and self._open == 0:
                    return
                self._sealable = anyio.Event()
                await self._sealable.wait()

    async def _sync_loop(self) -> None:
        with self._guarded():
            while True:
                await anyio.sleep(_SYNC_EVERY_S)
                await anyio.to_thread.run_sync(self._ledger.sync)

    async def _watch(self) -> None:
        """Ends the pass when it was told to stop, once nothing is in flight or the grace has passed."""
        async with anyio.create_task_group() as tasks:
            for event in (self._stopping, self._guard.shut):
                tasks.start_soon(_cancel_on, event, tasks.cancel_scope)
        self._stopping.set()
        if self._in_flight():
            self._observer.draining(self._in_flight(), self._grace_s)
        with anyio.move_on_after(self._grace_s):
            while self._in_flight():
                await anyio.sleep(_POLL_S)
        while self._full and self._failure is None:
            await anyio.sleep(_POLL_S)
        self._scope.cancel()

    def _check_space(self) -> None:
        if self._ledger.full is not None:
            self._fail(self._ledger.full)

    def _fail(self, error: BatchrunError) -> None:
        """The disk or the input failed: nothing new is sent, but what is in flight is paid for, and may yet be kept."""
        self._failure = self._failure or error
        self._stopping.set()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BatchrunError as error:
            self._fail(error)


async def _cancel_on(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
