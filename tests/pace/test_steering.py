"""Limits that a person changes while the run goes on, and the hold, in a time that only sleepers move."""

import itertools

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.pace.hold import Hold
from batchrun.pace.limits import Limits
from batchrun.records import Answer, Request, Usage
from batchrun.stop import Stop, Stopped, StopSign
from virtual import FakeClock

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))


class Endpoint:
    """Takes a second for an answer, notes when each attempt started and how many there are; refuses more than `takes`."""

    def __init__(self, clock: FakeClock, takes: int = 1000) -> None:
        self.clock = clock
        self.takes = takes
        self.starts: list[float] = []
        self.now = 0

    async def complete(self, request: Request) -> Answer:
        self.starts.append(self.clock.now() - 100.0)
        if self.now >= self.takes:
            raise EndpointError(Kind.RATE_LIMITED, "HTTP 429", status=429)
        self.now += 1
        try:
            await self.clock.sleep(1.0)
        finally:
            self.now -= 1
        return ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize(("before", "after"), [(2, 8), (8, 2)])
async def test_concurrency_is_changed_while_it_is_used(before: int, after: int) -> None:
    """More start at once where there may be more; where there may be fewer, those in flight are waited for."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(before, None, clock)
    complete = limits.wrap(endpoint.complete)
    async with anyio.create_task_group() as group:
        for _ in range(80):
            group.start_soon(complete, REQUEST)
        await clock.sleep(2.5)
        assert endpoint.now == before
        limits.allow(after)
        await clock.sleep(2.0)
        assert endpoint.now == after
    assert len(endpoint.starts) == 80


@pytest.mark.anyio
async def test_what_the_endpoint_takes_is_kept(anyio_backend: str) -> None:
    """An endpoint that takes three at once still gets three when a person allows fifty; and two when only two are allowed."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes=3)
    limits = Limits(10, None, clock)
    complete = limits.wrap(endpoint.complete)

    async def ask() -> None:
        while clock.now() < 130.0:
            try:
                await complete(REQUEST)
            except EndpointError:
                await clock.sleep(1.0)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
        await clock.sleep(10.0)
        asked = len(endpoint.starts)
        limits.allow(50)
        await clock.sleep(5.0)
        assert len(endpoint.starts) - asked <= 25
        limits.allow(2)
        await clock.sleep(3.0)
        assert endpoint.now <= 2


@pytest.mark.anyio
async def test_a_rate_is_changed_while_it_is_kept() -> None:
    """A slower rate holds at once, a faster one doesn't wait for what the slower one had put off; one may also be new."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(100, None, clock)
    complete = limits.wrap(endpoint.complete)

    async def one_after_another() -> None:
        for _ in range(12):
            await complete(REQUEST)

    async with anyio.create_task_group() as group:
        group.start_soon(one_after_another)
        await clock.sleep(0.5)
        limits.allow_requests(6)
        await clock.sleep(40.0)
        slow = len(endpoint.starts)
        assert 4 <= slow <= 6
        limits.allow_requests(600)
        await clock.sleep(9.0)
        assert len(endpoint.starts) == 12


@pytest.mark.anyio
async def test_nothing_is_sent_while_the_run_is_paused() -> None:
    """What waits for its place when the run is paused is not sent either, takes nothing from the rate, and goes later."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    hold = Hold(clock, StopSign())
    limits = Limits(2, 120, clock, check=hold.checked(lambda _request: None))
    complete = hold.wrap(limits.wrap(endpoint.complete))
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(complete, REQUEST)
        await clock.sleep(2.2)
        hold.pause()
        before = len(endpoint.starts)
        await clock.sleep(30.0)
        assert len(endpoint.starts) == before
        assert hold.release() == pytest.approx(30.0, abs=1.0)
    assert len(endpoint.starts) == 20
    after = endpoint.starts[before:]
    assert all(later - earlier >= 0.39 for earlier, later in itertools.pairwise(after))


@pytest.mark.anyio
async def test_a_paused_run_can_be_stopped() -> None:
    """Who waits behind the hold ends with the run."""
    clock = FakeClock()
    stop = StopSign()
    hold = Hold(clock, stop)
    hold.pause()
    complete = hold.wrap(Endpoint(clock).complete)
    stop.ask(Stop("signal", "x"))
    with pytest.raises(Stopped):
        await complete(REQUEST)
