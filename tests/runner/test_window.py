"""The window and the loop of shards, with a ledger and a client that do nothing: which request is asked when."""

from typing import Any, cast

import anyio
import pytest

from batchrun.engines import local
from batchrun.events import nobody
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.ledger.lines import Tally
from batchrun.records import Answer, Request, Result, Shard, ShardInfo, Usage
from batchrun.runner.backlog import Backlog
from batchrun.runner.shards import ShardLoop
from batchrun.runner.window import Window, widened
from batchrun.stop import Stop, StopSign

SHARD = 100
INFOS = [ShardInfo(number, number * SHARD, SHARD, 0, 0, 0, "") for number in range(2)]


class Books:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.sealed: list[int] = []

    def open(self, shard: Shard, requests: list[Request], _unusable: list[Result]) -> tuple[OpenShard, list[Result]]:
        opened = OpenShard(shard, cast("Any", None), {one.key: Tally() for one in requests}, {})
        opened.left, opened.pending = requests, len(requests)
        return opened, []

    async def recorded(self) -> None:
        await anyio.sleep_forever()

    def record(self, opened: OpenShard, result: Result) -> bool:
        self.results.append(result.row)
        opened.pending -= 1
        return opened.pending == 0

    def seal(self, opened: OpenShard) -> None:
        self.sealed.append(opened.shard.info.number)


class Endpoint:
    """Answers nobody until `well`."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.well = anyio.Event()
        self.in_flight = 0

    async def complete(self, request: Request) -> Answer:
        self.asked.append(request.row)
        self.in_flight += 1
        await self.well.wait()
        self.in_flight -= 1
        return Answer("x", Usage(1, 1, 2))


class Parts:
    """What a run is made of, one request in flight."""

    def __init__(self) -> None:
        self.books, self.endpoint, self.backlog, self.stop = Books(), Endpoint(), Backlog(), StopSign()
        ledger = cast("Ledger", self.books)
        complete, flying = self.endpoint.complete, lambda: self.endpoint.in_flight
        self.window = Window(complete, flying, lambda: 0, self.backlog, ledger, self.stop, nobody, 1)
        self.loop = ShardLoop(load, ledger, self.window, self.stop, nobody, 0.2)

    async def run(self) -> None:
        await local.run(self.window, self.loop, INFOS)


def load(info: ShardInfo) -> tuple[Shard, list[Request], list[Result]]:
    rows = range(info.first_row, info.first_row + info.rows)
    requests = [Request(row, str(row), "default", 0, b"{}", "h", "m", shard=info.number) for row in rows]
    return Shard(info, []), requests, []


@pytest.mark.anyio
async def test_a_scout_asks_a_row_that_stands_far_ahead() -> None:
    """Beside the rows in progress the last one of what is loaded is asked, out of turn; each row has one result all the
    same, and the backlog knows when nothing is left that was not asked.
    """
    run = Parts()
    width = widened(1)
    assert run.backlog.scout() is None  # nothing is loaded yet: nobody is there to be asked
    async with anyio.create_task_group() as group:
        group.start_soon(run.run)
        while len(run.endpoint.asked) < width:
            await anyio.sleep(0.001)
        assert not run.backlog.is_last
        run.backlog.scout()
        await anyio.wait_all_tasks_blocked()
        assert run.endpoint.asked[: width + 1] == [*range(width), SHARD - 1]
        while not run.backlog.is_last:
            run.backlog.scout()
            await anyio.sleep(0.001)
        assert run.backlog.scout() is None
        await anyio.wait_all_tasks_blocked()
        assert sorted(run.endpoint.asked) == list(range(2 * SHARD))
        run.endpoint.well.set()
    assert sorted(run.books.results) == list(range(2 * SHARD))
    assert sorted(run.books.sealed) == [0, 1]


@pytest.mark.anyio
async def test_a_scout_has_the_next_shard_loaded() -> None:
    """What is loaded may all be rows that nobody would answer: after a scout one shard more is opened."""
    run = Parts()
    async with anyio.create_task_group() as group:
        group.start_soon(run.run)
        while len(run.endpoint.asked) < widened(1):
            await anyio.sleep(0.001)
        run.backlog.scout()
        while len(run.backlog) <= SHARD:
            await anyio.sleep(0.001)
        farther = run.backlog.scout()
        assert farther is not None
        assert farther.row == 2 * SHARD - 1
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_stop_ends_the_pass_after_the_grace() -> None:
    """Nothing new is asked, what is in flight is waited for, and the shards stay open."""
    run = Parts()
    async with anyio.create_task_group() as group:
        group.start_soon(run.run)
        while len(run.endpoint.asked) < widened(1):
            await anyio.sleep(0.001)
        run.stop.ask(Stop("credit", "no money"))
    assert len(run.endpoint.asked) == widened(1)
    assert (run.books.results, run.books.sealed) == ([], [])


@pytest.mark.anyio
async def test_the_first_stop_wins() -> None:
    """What comes later is a consequence of it, or no news."""
    sign = StopSign()
    sign.ask(Stop("disk", "full"))
    sign.ask_at_once(Stop("signal", "SIGINT", 130))
    assert sign.stop == Stop("disk", "full")
    assert sign.at_once.is_set()


@pytest.mark.anyio
@pytest.mark.parametrize("after", [1, 40, 400])
async def test_the_window_is_resized_while_it_works(after: int) -> None:
    """As many requests are in progress as the new number allows; one that had begun is finished, and each has one result."""
    run = Parts()
    run.window.resize(40)  # before it works: nothing but the number
    async with anyio.create_task_group() as group:
        group.start_soon(run.run)
        while len(run.endpoint.asked) < widened(40):
            await anyio.sleep(0.001)
        run.window.resize(after)
        await anyio.wait_all_tasks_blocked()
        expected = min(max(widened(40), widened(after)), 2 * SHARD)
        while len(run.endpoint.asked) < expected:
            await anyio.sleep(0.001)
        assert len(run.endpoint.asked) == expected
        run.endpoint.well.set()
    assert sorted(run.books.results) == list(range(2 * SHARD))
    run.window.resize(3)  # after it has ended: nothing
