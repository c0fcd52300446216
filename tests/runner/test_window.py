"""The runner alone, with a ledger and a client that do nothing: which request is asked when."""

from typing import Any, cast

import anyio
import pytest

from batchrun.clock import SystemClock
from batchrun.ledger.journal import Tally
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.pace.guard import Guard
from batchrun.records import Answer, Request, Result, Shard, ShardInfo, Usage
from batchrun.runner.observer import Silent
from batchrun.runner.window import Runner, widened

SHARD = 100


class Books:
    """A ledger in memory."""

    full = None

    def __init__(self) -> None:
        self.results: list[int] = []
        self.sealed: list[int] = []

    def open(self, shard: Shard, requests: list[Request], _unusable: list[Result]) -> tuple[OpenShard, list[Result]]:
        opened = OpenShard(shard, cast("Any", None), {one.key: Tally() for one in requests}, {})
        opened.left, opened.pending = requests, len(requests)
        return opened, []

    def sent(self, _opened: OpenShard, _request: Request, _ceiling: int | None) -> None: ...

    def sync(self) -> None: ...

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

    async def complete(self, request: Request) -> Answer:
        self.asked.append(request.row)
        await self.well.wait()
        return Answer("x", Usage(1, 1, 2))


def requests_of(shard: Shard) -> tuple[list[Request], list[Result]]:
    first = shard.info.first_row
    return [Request(row, str(row), "default", 0, b"{}", "h", "m") for row in range(first, first + shard.info.rows)], []


@pytest.mark.anyio
async def test_a_scout_asks_a_row_that_stands_far_ahead() -> None:
    """Beside the rows in progress the last one of what is loaded is asked, out of turn; each row has one result all the
    same, and the runner knows when nothing is left that was not asked.
    """
    clock, books, endpoint = SystemClock(), Books(), Endpoint()
    runner = Runner(
        read=lambda info: Shard(info, []),
        build=requests_of,
        client=endpoint.complete,
        stack=lambda announced: announced,
        guard=Guard(clock, lambda _error, _patience_s: None),
        in_flight=lambda: 0,
        ledger=cast("Ledger", books),
        ceiling=lambda _request: 0,
        endpoint="e",
        concurrency=1,
        clock=clock,
        observer=Silent(),
        grace_s=1.0,
    )
    window = widened(1)
    infos = [ShardInfo(number, number * SHARD, SHARD, 0, 0, 0, "") for number in range(2)]
    runner.scout()  # nothing is loaded yet: nobody is there to be asked
    async with anyio.create_task_group() as group:
        group.start_soon(runner.run, infos)
        while len(endpoint.asked) < window:
            await anyio.sleep(0.001)
        assert not runner.is_last()
        runner.scout()
        await anyio.wait_all_tasks_blocked()
        assert endpoint.asked == [*range(window), SHARD - 1]
        while not runner.is_last():
            runner.scout()
            await anyio.sleep(0.001)
        runner.scout()
        await anyio.wait_all_tasks_blocked()
        assert sorted(endpoint.asked) == list(range(2 * SHARD))
        endpoint.well.set()
    assert sorted(books.results) == list(range(2 * SHARD))
    assert sorted(books.sealed) == [0, 1]
