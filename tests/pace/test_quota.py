"""A quota that is spent for long: one probe now and then, nothing else, and no row that pays for it."""

import contextlib
import time

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Event, Resumed, Waiting
from batchrun.moments import moment
from batchrun.pace.gate import Closed
from batchrun.pace.quota import Quota, is_long
from batchrun.records import Answer, Request, Usage
from batchrun.stop import Stopped, StopSign
from virtual import FakeClock

ANSWER = Answer("x", Usage(1, 1, 2))


def numbered(number: int) -> Request:
    return Request(number, str(number), "default", 0, b"{}", f"h{number}", "m")


def spent(wait_s: float | None = None, quota: str | None = None, *, at_once: bool = False) -> EndpointError:
    return EndpointError(Kind.RATE_LIMITED, "spent", retry_after_s=wait_s, quota=quota, at_once=at_once)


@pytest.mark.parametrize(
    ("error", "long"),
    [
        (spent(86_400.0), True),
        (spent(None, "day"), True),
        (spent(5.0, "month"), True),
        (spent(60.0), False),
        (spent(3600.0, at_once=True), False),
        (EndpointError(Kind.SERVER, "down", retry_after_s=86_400.0), False),
    ],
)
def test_what_is_long(error: EndpointError, long: bool) -> None:
    """A quota of a day or a month, or many minutes that a rate limit states; not what counts the requests in flight."""
    assert is_long(error) is long


class Endpoint:
    """Refuses until a moment, and states a wait and a quota, a day as what is left of it; `asked` has the seconds of every
    attempt since the start.
    """

    def __init__(self, clock: FakeClock, until_s: float, wait_s: float | None, quota: str | None) -> None:
        self.clock, self.wait_s, self.quota = clock, wait_s, quota
        self.begin = clock.now()
        self.until = self.begin + until_s
        self.asked: list[float] = []
        self.in_flight = self.most = 0

    async def complete(self, _request: Request) -> Answer:
        self.asked.append(self.clock.now() - self.begin)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await self.clock.sleep(0.1)
        self.in_flight -= 1
        left_s = self.until - self.clock.now()
        if left_s > 0:
            raise spent(
                min(left_s, self.wait_s) if self.wait_s == 86_400.0 and not self.quota else self.wait_s, self.quota
            )
        return ANSWER


async def ask(quota: Quota, endpoint: Endpoint, rows: int) -> None:
    """Every row until it is answered, all at once."""
    complete = quota.wrap(endpoint.complete)

    async def row(number: int) -> None:
        while True:
            try:
                await complete(numbered(number))
                return
            except EndpointError:
                await endpoint.clock.sleep(0.5)

    async with anyio.create_task_group() as group:
        for number in range(rows):
            group.start_soon(row, number)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lasts_s", "stated_s", "quota", "probes", "late_s"),
    [
        (86_400.0, 86_400.0, None, 30, 1.0),
        (86_400.0, None, "day", 36, 3601.0),
        (600.0, 5.0, "day", 9, 640.0),
        (7200.0, 86_400.0, "day", 5, 3601.0),
    ],
    ids=["stated right", "not stated", "stated too short", "stated too long"],
)
async def test_one_probe_now_and_then(
    lasts_s: float, stated_s: float | None, quota: str | None, probes: int, late_s: float
) -> None:
    """After the refusals of those in flight one at a time is sent, ever more rarely, until it is answered; then all are."""
    clock, heard = FakeClock(), list[Event]()
    endpoint = Endpoint(clock, lasts_s, stated_s, quota)
    await ask(Quota(clock, StopSign(), heard.append), endpoint, 16)
    refused = [at for at in endpoint.asked[16:] if at < lasts_s]
    assert len(refused) <= probes
    assert max(endpoint.asked) <= lasts_s + late_s
    assert endpoint.asked[16] >= 5.0
    assert [type(event) for event in heard[:1] + heard[-1:]] == [Waiting, Resumed]
    assert isinstance(heard[0], Waiting)
    assert heard[0].probed


@pytest.mark.anyio
async def test_a_quota_that_fills_up_evenly_is_not_worth_a_word() -> None:
    """A wait of seconds is kept without a line for each of them."""
    clock, heard = FakeClock(), list[Event]()
    endpoint = Endpoint(clock, 6.0, 6.0, "day")
    await ask(Quota(clock, StopSign(), heard.append), endpoint, 4)
    assert heard == []
    assert len(endpoint.asked) == 4 + 4


@pytest.mark.anyio
async def test_who_waited_for_its_place_is_sent_back() -> None:
    """Nothing that was let through before the refusal goes on the wire after it."""
    clock = FakeClock()
    quota = Quota(clock, StopSign(), lambda _event: None)
    endpoint = Endpoint(clock, 1e9, 86_400.0, None)
    quota.check(numbered(1))
    with pytest.raises(EndpointError):
        await quota.wrap(endpoint.complete)(numbered(0))
    with pytest.raises(Closed):
        quota.check(numbered(1))


@pytest.mark.anyio
@pytest.mark.parametrize(("stated_s", "quota"), [(86_400.0, None), (120.0, None), (None, "day")])
async def test_a_wait_longer_than_allowed_ends_the_run(stated_s: float | None, quota: str | None) -> None:
    """`longest_wait_s` ends it with what to do and, where it is known, until when; also where only the words say "day"."""
    clock, stop = FakeClock(), StopSign()
    endpoint = Endpoint(clock, 1e9, stated_s, quota)
    complete = Quota(clock, stop, lambda _event: None, longest_wait_s=100.0).wrap(endpoint.complete)
    with pytest.raises(Stopped):
        for _ in range(9):
            with contextlib.suppress(EndpointError):
                await complete(numbered(0))
    assert stop.stop is not None
    assert stop.stop.exit_code == 3
    assert "longest_wait_s = 100" in stop.stop.message
    assert ("until " in stop.stop.message) is (stated_s is not None)
    assert clock.now() - endpoint.begin <= 200.0


@pytest.mark.anyio
async def test_a_wait_within_what_is_allowed_ends_nothing() -> None:
    """Two hours are waited for where a day is allowed."""
    clock, stop = FakeClock(), StopSign()
    await ask(
        Quota(clock, stop, lambda _event: None, longest_wait_s=86_400.0), Endpoint(clock, 7200.0, 7200.0, None), 3
    )
    assert stop.stop is None


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(60.0, "14:01:00"), (19 * 3600.0, "09:00 tomorrow"), (5 * 86_400.0, "14:00 on 2026-03-06")],
)
def test_a_moment_in_words(seconds: float, says: str) -> None:
    """Today's by the second, tomorrow's and later ones by the minute, by the local time."""
    now = time.mktime((2026, 3, 1, 14, 0, 0, 0, 0, -1))
    assert moment(now, seconds) == says
