"""Faults that every row would meet: pause, probe, and only then stop (endpoint.md §4)."""

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from batchrun.errors import FATAL_KINDS, EndpointError, Kind
from batchrun.pace.guard import CONNECT_FAULTS_IN_A_ROW, Guard, Stopped
from batchrun.records import Answer, Request, Usage

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))
PASSING = sorted(set(Kind) - FATAL_KINDS - {Kind.CONNECT})


class FakeClock:
    """Time that passes only while somebody sleeps; `meanwhile` runs during a sleep."""

    def __init__(self) -> None:
        self.time = 100.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def epoch(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.wait_all_tasks_blocked()
        self.meanwhile()
        self.time += seconds


class Endpoint:
    """Gives the kinds of `plan` in turn, an answer for None and after its end."""

    def __init__(self, *plan: Kind | None) -> None:
        self.plan = list(plan)
        self.asked = 0

    async def complete(self, request: Request) -> Answer:
        self.asked += 1
        kind = self.plan.pop(0) if self.plan else None
        await anyio.lowlevel.checkpoint()
        if kind is not None:
            raise EndpointError(kind, f"{kind}!", status=401)
        return ANSWER


def guarded(clock: FakeClock) -> tuple[Guard, list[EndpointError]]:
    paused: list[EndpointError] = []
    return Guard(clock, paused.append), paused


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_lasts_stops(kind: Kind) -> None:
    """The first such fault pauses and probes once; when the probe fails so too, the run is stopped with a mend."""
    clock, endpoint = FakeClock(), Endpoint(kind, kind)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert ([error.kind for error in paused], clock.slept, endpoint.asked) == ([kind], [2.0], 2)
    assert guard.shut.is_set()
    assert guard.fault is not None
    assert guard.message().startswith(f"stopped ({kind}): {kind}!; ")
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert endpoint.asked == 2


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_passes_does_not_stop(kind: Kind) -> None:
    """When the probe is answered the request has its answer and the run goes on."""
    clock, endpoint = FakeClock(), Endpoint(kind)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    assert await complete(REQUEST) is ANSWER
    assert (guard.fault, guard.shut.is_set(), len(paused), endpoint.asked) == (None, False, 1, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PASSING)
async def test_a_probe_with_another_fault_opens_the_gate(kind: Kind) -> None:
    """A probe that meets a fault of its own raises it to be retried; the run is not stopped."""
    clock, endpoint = FakeClock(), Endpoint(Kind.CREDENTIALS, kind)
    guard, _ = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    with pytest.raises(EndpointError) as caught:
        await complete(REQUEST)
    assert caught.value.kind is kind
    assert guard.fault is None
    assert await complete(REQUEST) is ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PASSING)
async def test_other_faults_pass_through(kind: Kind) -> None:
    """A fault of one row or moment is passed on and pauses nobody."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    endpoint = Endpoint(*[kind] * 50)
    complete = guard.wrap(endpoint.complete)
    for _ in range(50):
        with pytest.raises(EndpointError):
            await complete(REQUEST)
    assert (guard.fault, paused, clock.slept) == (None, [], [])


async def fail(complete: Callable[[Request], object], times: int) -> None:
    for _ in range(times):
        with pytest.raises(EndpointError):
            await complete(REQUEST)  # type: ignore[misc]


@pytest.mark.anyio
async def test_many_connect_faults_in_a_row_stop() -> None:
    """Connect faults are retried one by one, and stop the run when there are many with nothing between."""
    clock, endpoint = FakeClock(), Endpoint(*[Kind.CONNECT] * 100)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    assert paused == []
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert len(paused) == 1
    assert "check that the endpoint is up" in guard.message()


@pytest.mark.anyio
@pytest.mark.parametrize("between", [None, Kind.SERVER, Kind.BAD_REQUEST])
async def test_any_sign_of_life_starts_the_count_again(between: Kind | None) -> None:
    """An answer, even a fault that was answered, starts the count of connect faults again."""
    row: list[Kind | None] = [Kind.CONNECT] * (CONNECT_FAULTS_IN_A_ROW - 1)
    clock, endpoint = FakeClock(), Endpoint(*row, between, *row)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, len(row))
    if between is None:
        assert await complete(REQUEST) is ANSWER
    else:
        await fail(complete, 1)
    await fail(complete, len(row))
    assert paused == []


@pytest.mark.anyio
@pytest.mark.parametrize("recovers", [True, False])
async def test_nothing_starts_while_the_probe_is_out(recovers: bool) -> None:
    """While the gate is shut nobody asks; all are answered when it opens, or all are stopped."""
    clock = FakeClock()
    endpoint = Endpoint(*[Kind.CREDENTIALS] * (3 if recovers else 4))
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    ends: list[object] = []
    asked_in_the_pause: list[int] = []
    clock.meanwhile = lambda: asked_in_the_pause.append(endpoint.asked)

    async def one() -> None:
        try:
            ends.append(await complete(REQUEST))
        except Stopped:
            ends.append(Stopped)

    async with anyio.create_task_group() as group:
        for _ in range(3):  # in flight together: each meets the fault, one probes
            group.start_soon(one)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        for _ in range(5):  # these come when the gate is shut
            group.start_soon(one)
    assert asked_in_the_pause == [3]
    assert len(paused) == 1
    assert ends == [ANSWER if recovers else Stopped] * 8
    assert endpoint.asked == (3 + 8 if recovers else 4)
