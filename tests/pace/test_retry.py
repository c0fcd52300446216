"""Asking again: which faults, how often, and how long between (endpoint.md §4–§5)."""

import random
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel
import pytest

import virtual
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.pace import retry
from batchrun.records import Answer, Request, Usage
from batchrun.sections import Retry

from .run import retrying

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))
FINAL = ROW_KINDS | FATAL_KINDS
TWICE = [Kind.MALFORMED, Kind.EMPTY_OUTPUT]
PASSING = sorted(set(Kind) - FINAL - {Kind.RATE_LIMITED, *TWICE})


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
    """A fault that asking can't remedy ends the request at once, first or later."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.SERVER)] * before + [fault(kind)])
    with pytest.raises(EndpointError) as caught:
        await retrying(endpoint.complete, Retry(), clock)(REQUEST)
    assert caught.value.kind is kind
    assert (endpoint.asked, len(clock.slept)) == (before + 1, before)


@pytest.mark.anyio
async def test_rate_limits_do_not_count() -> None:
    """A rate limit never uses up an attempt: the endpoint said to come back."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED, 1.0)] * 50 + [fault(Kind.SERVER)])
    answer = await retrying(endpoint.complete, Retry(max_attempts=2), clock)(REQUEST)
    assert answer is ANSWER
    assert endpoint.asked == 52


@pytest.mark.anyio
async def test_waits_grow_with_full_jitter_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are drawn from U(0, 0.5·2ⁿ), never beyond `max_wait_s`."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.SERVER)] * 6)
    await retrying(endpoint.complete, Retry(max_wait_s=10.0), clock)(REQUEST)
    assert drawn == [(0, 1.0), (0, 2.0), (0, 4.0), (0, 8.0), (0, 10.0), (0, 10.0)]
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@pytest.mark.anyio
@pytest.mark.parametrize("stated", [0.0, 0.25, 7.0, 299.0])
async def test_a_stated_wait_is_a_floor(stated: float) -> None:
    """A stated wait of minutes is kept, with a little jitter on top and never less."""
    for _ in range(20):
        clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED, stated)])
        await retrying(endpoint.complete, Retry(max_wait_s=2.0), clock)(REQUEST)
        assert stated <= clock.slept[0] <= stated * 1.1 + 1.0


@pytest.mark.anyio
async def test_other_exceptions_pass_through() -> None:
    """What is no EndpointError is nobody's fault to retry: it passes through at once."""

    async def broken(request: Request) -> Answer:
        raise RuntimeError("a bug")

    clock = FakeClock()
    with pytest.raises(RuntimeError, match="a bug"):
        await retrying(broken, Retry(), clock)(REQUEST)
    assert clock.slept == []


@pytest.mark.anyio
async def test_requests_do_not_share_their_counts() -> None:
    """One wrapper serves many requests; each has attempts of its own."""
    clock = FakeClock()
    for _ in range(3):
        endpoint = Endpoint([fault(Kind.SERVER)])
        complete = retrying(endpoint.complete, Retry(max_attempts=2), clock)
        assert await complete(REQUEST) is ANSWER


@pytest.mark.anyio
async def test_a_rate_limit_is_never_final() -> None:
    """`x-should-retry: false` on a 429 means this call, not this row: time renews the limit."""
    error = fault(Kind.RATE_LIMITED)
    error.should_retry = False
    clock, endpoint = FakeClock(), Endpoint([error] * 4)
    assert await retrying(endpoint.complete, Retry(), clock)(REQUEST) is ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.TIMEOUT])
async def test_the_endpoint_may_forbid_a_retry(kind: Kind) -> None:
    """`x-should-retry: false` ends a request after one attempt, once others that were answered show that its fault is its
    own: in an outage every row gets one.
    """
    clock = virtual.FakeClock()

    def final(row: int, _at: float) -> EndpointError | None:
        error = fault(kind)
        error.should_retry = False
        return error if row == 3 else None

    endpoint = Timed(clock, final)
    ended = await run(endpoint, 100, 26, Retry())
    assert {row for row, end in ended.items() if end is not ANSWER} == {3}
    assert endpoint.asked.count(3) == 1


@pytest.mark.anyio
async def test_no_rate_limit_is_final() -> None:
    """Nor is it where the endpoint says that it shall not be asked again."""
    error = fault(Kind.RATE_LIMITED)
    error.should_retry = False
    endpoint = Endpoint([error])
    assert await retrying(endpoint.complete, Retry(), FakeClock())(REQUEST) is ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(ROW_KINDS))
async def test_the_endpoint_may_ask_for_a_retry(kind: Kind) -> None:
    """`x-should-retry: true` has any fault asked again, up to `max_attempts`."""
    errors = [fault(kind) for _ in range(20)]
    for error in errors:
        error.should_retry = True
    clock, endpoint = FakeClock(), Endpoint(errors[:2])
    assert await retrying(endpoint.complete, Retry(), clock)(REQUEST) is ANSWER
    endpoint = Endpoint(errors)
    with pytest.raises(EndpointError):
        await retrying(endpoint.complete, Retry(max_attempts=4), clock)(REQUEST)
    assert endpoint.asked == 4


def numbered(number: int) -> Request:
    return Request(number, str(number), "default", 0, b"{}", f"h{number}", "m")


class Timed:
    """Answers by `says(row, seconds since the start)`, after a tenth of a second, ten at a time."""

    def __init__(self, clock: virtual.FakeClock, says: Callable[[int, float], EndpointError | None]) -> None:
        self.clock, self.says = clock, says
        self.asked: list[int] = []
        self.places = anyio.Semaphore(10)

    async def complete(self, request: Request) -> Answer:
        async with self.places:
            self.asked.append(request.row)
            await self.clock.sleep(0.1)
            error = self.says(request.row, self.clock.time - 100.0)
        if error is not None:
            raise error
        return ANSWER


async def run(endpoint: Timed, rows: int, window: int, settings: Retry) -> dict[int, object]:
    """All rows through one wrapper, `window` of them in progress; what each ended in."""
    complete = retrying(endpoint.complete, settings, endpoint.clock)
    left = list(reversed(range(rows)))
    ended: dict[int, object] = {}

    async def work() -> None:
        while left:
            row = left.pop()
            try:
                ended[row] = await complete(numbered(row))
            except EndpointError as error:
                ended[row] = error

    async with anyio.create_task_group() as group:
        for _ in range(window):
            group.start_soon(work)
    return ended


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.CONNECT, Kind.SERVER, Kind.RATE_LIMITED])
async def test_an_outage_of_an_hour_ends_no_row(kind: Kind) -> None:
    """While an endpoint that answered before answers nobody, its faults are held against no row."""
    clock = virtual.FakeClock()
    endpoint = Timed(clock, lambda _, at: fault(kind) if 0.35 < at < 3600 else None)
    ended = await run(endpoint, 120, 26, Retry())
    assert list(ended.values()) == [ANSWER] * 120
    assert clock.time > 3600


@pytest.mark.anyio
@pytest.mark.parametrize("most", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", PASSING)
async def test_a_row_that_fails_alone_ends_after_max_attempts(kind: Kind, most: int) -> None:
    """The same fault on one row, while others are answered, ends that row and no other, after just so many attempts."""
    clock = virtual.FakeClock()
    endpoint = Timed(clock, lambda row, _: fault(kind) if row in (3, 60) else None)
    ended = await run(endpoint, 100, 26, Retry(max_attempts=most))
    assert {row for row, end in ended.items() if end is not ANSWER} == {3, 60}
    assert (endpoint.asked.count(3), endpoint.asked.count(60), len(endpoint.asked)) == (most, most, 98 + 2 * most)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", TWICE)
async def test_malformed_and_empty_answers_are_asked_twice_more(kind: Kind) -> None:
    """An answer that can't be read, or has nothing in it, is asked for twice more, whatever `max_attempts` is."""
    clock = virtual.FakeClock()
    endpoint = Timed(clock, lambda row, _: fault(kind) if row == 3 else None)
    ended = await run(endpoint, 100, 26, Retry())
    assert {row for row, end in ended.items() if end is not ANSWER} == {3}
    assert endpoint.asked.count(3) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("stated", [0.0, 0.01])
async def test_a_stated_wait_of_nothing_takes_no_brake_away(stated: float) -> None:
    """An endpoint that says "at once" with every refusal is asked with growing pauses all the same."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED, stated) for _ in range(20)])
    await retrying(endpoint.complete, Retry(max_wait_s=10.0), clock)(REQUEST)
    assert sum(clock.slept) > 30.0


@pytest.mark.anyio
async def test_a_request_that_alone_is_always_rate_limited_ends() -> None:
    """With nothing beside it for two minutes, a request that is still refused ends, and says why."""
    clock, endpoint = FakeClock(), Endpoint([fault(Kind.RATE_LIMITED) for _ in range(10_000)])
    with pytest.raises(EndpointError, match="nothing else was in flight: perhaps it is larger") as caught:
        await retrying(endpoint.complete, Retry(), clock)(REQUEST)
    assert caught.value.kind is Kind.RATE_LIMITED
    assert clock.time - 100.0 >= retry.ALONE_S
    assert endpoint.asked < 100


@pytest.mark.anyio
async def test_a_request_that_is_passed_over_for_ever_ends() -> None:
    """One request that is always refused, while those beside it are answered over and over, ends, and says why."""
    clock = virtual.FakeClock()
    endpoint = Timed(clock, lambda row, _: fault(Kind.RATE_LIMITED) if row == 5 else None)
    ended = await run(endpoint, 4000, 8, Retry(max_wait_s=2.0))
    error = ended.pop(5)
    assert isinstance(error, EndpointError)
    assert "others were answered: perhaps it is larger" in error.message
    assert set(ended.values()) == {ANSWER}


@pytest.mark.anyio
async def test_a_tight_limit_ends_no_row() -> None:
    """Where one in forty attempts gets through, every row gets its answer in the end."""
    clock = virtual.FakeClock()
    draws = random.Random(7)
    endpoint = Timed(clock, lambda _row, _at: fault(Kind.RATE_LIMITED, 1.0) if draws.random() > 1 / 40 else None)
    ended = await run(endpoint, 60, 20, Retry())
    assert list(ended.values()) == [ANSWER] * 60
