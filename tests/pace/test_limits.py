"""How many at once and how often, in a time that only sleepers move (contract.md §7.5, endpoint.md §5)."""

import bisect

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Waiting
from batchrun.pace.limits import Limits
from batchrun.records import Answer, Request, Usage
from virtual import FakeClock

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))


class Endpoint:
    """Takes `takes_s` for an answer, and notes when each attempt started and how many there were at once."""

    def __init__(self, clock: FakeClock, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.starts: list[float] = []
        self.now = self.most = 0
        self.faults: list[EndpointError] = []

    async def complete(self, request: Request) -> Answer:
        self.starts.append(self.clock.now() - 100.0)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.clock.sleep(self.takes_s)
            if self.faults:
                raise self.faults.pop(0)
        finally:
            self.now -= 1
        return ANSWER


async def ask(limits: Limits, endpoint: Endpoint, count: int) -> None:
    complete = limits.wrap(endpoint.complete)
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(complete, REQUEST)


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [1, 3, 20])
async def test_concurrency_is_kept_and_used(concurrency: int) -> None:
    """Never more than `concurrency` attempts are in flight, and no fewer while some wait."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes_s=1.0)
    limits = Limits(concurrency, None, clock)
    await ask(limits, endpoint, 30)
    assert (endpoint.most, limits.in_flight) == (concurrency, 0)
    assert clock.now() - 100.0 == pytest.approx(-(-30 // concurrency))


def most_in_a_minute(starts: list[float]) -> int:
    """The most starts that any window of 60 s holds."""
    return max(bisect.bisect_left(starts, start + 60.0) - place for place, start in enumerate(starts))


@pytest.mark.anyio
async def test_starts_are_evenly_spaced() -> None:
    """600 a minute is one each 0.1 s (and 0.2 % more, as slack), no sooner and no later."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes_s=0.05)
    await ask(Limits(64, 600, clock), endpoint, 40)
    assert sorted(endpoint.starts) == pytest.approx([number * 0.1002 for number in range(40)])


@pytest.mark.anyio
@pytest.mark.parametrize("late_s", [0.0, 0.004, 0.03])
@pytest.mark.parametrize("rpm", [60, 900, 12_000])
async def test_rate_is_kept_and_used(rpm: int, late_s: float) -> None:
    """No minute holds more than the rate, and close to all of it is used, also when sleepers wake late."""
    clock = FakeClock()
    sleep = clock.sleep

    async def oversleep(seconds: float) -> None:
        await sleep(seconds + late_s)

    clock.sleep = oversleep  # type: ignore[method-assign]
    endpoint = Endpoint(clock)
    limits = Limits(16, rpm, clock)
    await ask(limits, endpoint, min(2 * rpm, 2500))
    starts = sorted(endpoint.starts)
    assert most_in_a_minute(starts) <= rpm
    assert (len(starts) - 1) / (starts[-1] - starts[0]) * 60 >= 0.99 * rpm


@pytest.mark.anyio
async def test_idle_time_is_not_saved_up() -> None:
    """After an idle hour no more than 0.1 s worth of starts is made up for."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(64, 6000, clock)
    clock.time += 3600
    await ask(limits, endpoint, 50)
    assert sum(start < 3600.001 for start in endpoint.starts) <= 11


@pytest.mark.anyio
async def test_no_limit_never_sleeps() -> None:
    """Without a rate and a pause nothing is waited for."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    await ask(Limits(8, None, clock), endpoint, 8)
    assert endpoint.starts == [0.0] * 8


@pytest.mark.anyio
async def test_a_rate_limit_pauses_everybody() -> None:
    """One stated wait holds back all that have not started, and not much longer than stated."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes_s=0.1)
    endpoint.faults = [EndpointError(Kind.RATE_LIMITED, "slow", retry_after_s=5.0)]
    limits = Limits(1, None, clock)
    with pytest.raises(EndpointError, match="slow"):
        await limits.wrap(endpoint.complete)(REQUEST)
    await ask(limits, endpoint, 3)
    assert 5.1 <= endpoint.starts[1] <= 5.1 + 0.5
    assert limits.in_flight == 0


@pytest.mark.anyio
@pytest.mark.parametrize("stated", [0.2, 1.0, 30.0])
async def test_those_who_wait_do_not_return_in_step(stated: float) -> None:
    """After a pause its waiters come back one by one: none too early, no crowd at one moment, none much later."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(64, None, clock)
    limits.pause(stated)
    await ask(limits, endpoint, 64)
    spread = max(0.1 * stated, min(stated, 0.5))
    assert stated <= min(endpoint.starts) <= max(endpoint.starts) <= stated + spread
    assert max(endpoint.starts) - min(endpoint.starts) > spread / 2
    assert len(set(endpoint.starts)) == 64


@pytest.mark.anyio
async def test_a_limit_without_a_stated_wait_pauses_too() -> None:
    """An empty 429 pauses everybody for half a second, then for a second, until somebody is answered."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(1, None, clock)
    complete = limits.wrap(endpoint.complete)
    for wait in (0.5, 1.0, 1.0, 1.0, None, 0.5):
        endpoint.faults = [] if wait is None else [EndpointError(Kind.RATE_LIMITED, "slow")]
        before = clock.now()
        if wait is None:
            await complete(REQUEST)
            continue
        with pytest.raises(EndpointError):
            await complete(REQUEST)
        asked = clock.now()
        assert asked >= before
        assert limits._paused_until == pytest.approx(asked + wait)


@pytest.mark.anyio
async def test_limits_met_together_are_one() -> None:
    """Rate limits of attempts that were in flight together don't add up."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes_s=0.1)
    limits = Limits(20, None, clock)
    endpoint.faults = [EndpointError(Kind.RATE_LIMITED, "slow") for _ in range(20)]
    complete = limits.wrap(endpoint.complete)

    async def refused() -> None:
        with pytest.raises(EndpointError):
            await complete(REQUEST)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(refused)
    assert limits._paused_until == pytest.approx(clock.now() + 0.5)


@pytest.mark.anyio
async def test_a_long_wait_is_told_once() -> None:
    """A stated wait that somebody may wonder at is told, once for all that meet it; a short one is not."""
    clock = FakeClock()
    endpoint = Endpoint(clock, takes_s=0.1)
    told: list[float] = []
    limits = Limits(
        8, None, clock, hear=lambda event: told.append(event.seconds) if isinstance(event, Waiting) else None
    )
    complete = limits.wrap(endpoint.complete)

    async def refused() -> None:
        with pytest.raises(EndpointError):
            await complete(REQUEST)

    for stated_s in (200.0, 2.0):
        endpoint.faults = [EndpointError(Kind.RATE_LIMITED, "slow", retry_after_s=stated_s) for _ in range(8)]
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(refused)
    assert told == [200.0]


@pytest.mark.anyio
async def test_who_waits_is_not_in_flight() -> None:
    """During a pause nothing is on the wire."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(4, None, clock)
    limits.pause(10.0)
    seen: list[int] = []

    async def look() -> None:
        await clock.sleep(5.0)
        seen.append(limits.in_flight)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, limits, endpoint, 6)
        group.start_soon(look)
    assert seen == [0]


@pytest.mark.anyio
async def test_a_later_pause_never_shortens_a_longer_one() -> None:
    """Of two stated waits the one that ends later holds."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(4, None, clock)
    limits.pause(10.0)
    limits.pause(1.0)
    await ask(limits, endpoint, 4)
    assert min(endpoint.starts) >= 10.0


@pytest.mark.anyio
async def test_a_pause_during_the_wait_for_a_turn_is_kept() -> None:
    """Who already waits for its turn also keeps a pause that comes meanwhile."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    limits = Limits(4, 60, clock)

    async def later() -> None:
        await clock.sleep(0.5)
        limits.pause(10.0)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, limits, endpoint, 3)
        group.start_soon(later)
    first, *others = sorted(endpoint.starts)
    assert first == 0.0
    assert min(others) >= 10.5
    assert others[1] - others[0] >= 0.9


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.BAD_REQUEST])
async def test_other_faults_do_not_pause(kind: Kind) -> None:
    """Only a rate limit pauses; every fault gives its place back."""
    clock = FakeClock()
    endpoint = Endpoint(clock)
    endpoint.faults = [EndpointError(kind, "no", retry_after_s=5.0)]
    limits = Limits(1, None, clock)
    with pytest.raises(EndpointError, match="no"):
        await limits.wrap(endpoint.complete)(REQUEST)
    await ask(limits, endpoint, 1)
    assert endpoint.starts == [0.0, 0.0]


@pytest.mark.anyio
async def test_a_cancelled_attempt_gives_its_place_back() -> None:
    """A cancelled attempt holds no place."""
    clock = FakeClock()
    limits = Limits(1, None, clock)

    async def hanging(request: Request) -> Answer:
        scope.cancel()
        await anyio.sleep_forever()
        return ANSWER

    with anyio.CancelScope() as scope:
        await limits.wrap(hanging)(REQUEST)
    assert limits.in_flight == 0
    await ask(limits, Endpoint(clock), 1)
