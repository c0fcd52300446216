"""Asking again: which faults, how often, and how long between (endpoint.md §4–§5)."""

import random
from collections.abc import Iterable

import pytest

from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.job import Retry
from batchrun.pace.retry import retrying
from batchrun.records import Answer, Request, Usage

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))
FINAL = ROW_KINDS | FATAL_KINDS
PASSING = sorted(set(Kind) - FINAL - {Kind.RATE_LIMITED, Kind.MALFORMED})


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def epoch(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Endpoint:
    """Answers with the given faults in turn, then with an answer."""

    def __init__(self, faults: Iterable[EndpointError]) -> None:
        self.faults = iter(faults)
        self.asked = 0

    async def complete(self, request: Request) -> Answer:
        self.asked += 1
        for fault in self.faults:
            raise fault
        return ANSWER


def fault(kind: Kind, retry_after_s: float | None = None) -> EndpointError:
    return EndpointError(kind, f"{kind}!", retry_after_s=retry_after_s)


@pytest.mark.anyio
async def test_an_answer_is_passed_through() -> None:
    """An answer at once costs one attempt and no wait."""
    clock, endpoint = FakeClock(), Endpoint([])
    seen: list[EndpointError] = []
    assert await retrying(endpoint.complete, Retry(), clock, seen.append)(REQUEST) is ANSWER
    assert (endpoint.asked, clock.slept, seen) == (1, [], [])


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PASSING)
async def test_a_passing_fault_is_asked_again(kind: Kind) -> None:
    """A fault that may pass is asked again, each announced, until the answer comes."""
    clock, endpoint = FakeClock(), Endpoint([fault(kind)] * 3)
    seen: list[EndpointError] = []
    assert await retrying(endpoint.complete, Retry(), clock, seen.append)(REQUEST) is ANSWER
    assert endpoint.asked == 4
    assert [error.kind for error in seen] == [kind] * 3
    assert len(clock.slept) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FINAL))
@pytest.mark.parametrize("before", [0, 1])
async def test_a_final_fault_is_not_asked_again(kind: Kind, before: int) -> None:
    """A fault that asking can't mend ends the request at once, first or later."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.SERVER)] * before + [fault(kind)])
    with pytest.raises(EndpointError) as caught:
        await retrying(endpoint.complete, Retry(), clock, lambda _: None)(REQUEST)
    assert caught.value.kind is kind
    assert (endpoint.asked, len(clock.slept)) == (before + 1, before)


@pytest.mark.anyio
@pytest.mark.parametrize("most", [1, 2, 8])
async def test_max_attempts(most: int) -> None:
    """`max_attempts` attempts are made, and the last fault is the one that is raised."""
    faults = [fault(Kind.SERVER) for _ in range(20)]
    clock, endpoint = FakeClock(), Endpoint(faults)
    seen: list[EndpointError] = []
    with pytest.raises(EndpointError) as caught:
        await retrying(endpoint.complete, Retry(max_attempts=most), clock, seen.append)(REQUEST)
    assert caught.value is faults[most - 1]
    assert (endpoint.asked, len(seen), len(clock.slept)) == (most, most - 1, most - 1)


@pytest.mark.anyio
async def test_rate_limits_do_not_count() -> None:
    """A rate limit never uses up an attempt: the endpoint said to come back."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED, 1.0)] * 50 + [fault(Kind.SERVER)])
    answer = await retrying(endpoint.complete, Retry(max_attempts=2), clock, lambda _: None)(REQUEST)
    assert answer is ANSWER
    assert endpoint.asked == 52


@pytest.mark.anyio
async def test_malformed_is_asked_twice_more() -> None:
    """A malformed answer is asked for twice more, whatever `max_attempts` is."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.MALFORMED)] * 9)
    with pytest.raises(EndpointError, match="malformed!"):
        await retrying(endpoint.complete, Retry(), clock, lambda _: None)(REQUEST)
    assert endpoint.asked == 3


@pytest.mark.anyio
async def test_waits_grow_with_full_jitter_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are drawn from U(0, 0.5·2ⁿ), never beyond `max_wait_s`."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.SERVER)] * 6)
    await retrying(endpoint.complete, Retry(max_wait_s=10.0), clock, lambda _: None)(REQUEST)
    assert drawn == [(0, 1.0), (0, 2.0), (0, 4.0), (0, 8.0), (0, 10.0), (0, 10.0)]
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@pytest.mark.anyio
@pytest.mark.parametrize("stated", [0.0, 0.25, 7.0, 300.0])
async def test_a_stated_wait_is_a_floor(stated: float) -> None:
    """A stated wait is kept, however long, with a little jitter on top and never less."""
    for _ in range(20):
        clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED, stated)])
        await retrying(endpoint.complete, Retry(max_wait_s=2.0), clock, lambda _: None)(REQUEST)
        assert stated <= clock.slept[0] <= stated * 1.1 + 1.0


@pytest.mark.anyio
async def test_other_exceptions_pass_through() -> None:
    """What is no EndpointError is nobody's fault to retry: it passes through at once."""

    async def broken(request: Request) -> Answer:
        raise RuntimeError("a bug")

    clock = FakeClock()
    with pytest.raises(RuntimeError, match="a bug"):
        await retrying(broken, Retry(), clock, lambda _: None)(REQUEST)
    assert clock.slept == []


@pytest.mark.anyio
async def test_requests_do_not_share_their_counts() -> None:
    """One wrapper serves many requests; each has attempts of its own."""
    clock = FakeClock()
    for _ in range(3):
        endpoint = Endpoint([fault(Kind.SERVER)])
        complete = retrying(endpoint.complete, Retry(max_attempts=2), clock, lambda _: None)
        assert await complete(REQUEST) is ANSWER
