"""How many may be in flight: pure decisions, and the places that they are kept with."""

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Event, Narrowed
from batchrun.pace.adapt import End, Fit, Seen, decide, grown
from batchrun.pace.limits import Limits
from batchrun.pace.places import Places
from batchrun.records import Answer, Request, Usage
from virtual import FakeClock

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))


def refused(fit: Fit, began: float, now: float, left: int) -> Fit:
    return decide(Seen(End.REFUSED, began, now, 64, left), fit)


def burst(most: int, takes: int) -> Fit:
    """The state after `most` were sent at once to an endpoint that takes so many of them."""
    fit = Fit(most, most)
    for left in range(most - 1, takes - 1, -1):
        fit = refused(fit, 0.0, 0.1, left)
    return fit


@pytest.mark.parametrize("takes", [1, 4, 8, 63])
def test_the_refusals_of_one_burst_leave_what_is_taken(takes: int) -> None:
    """After one burst as many may be in flight as the endpoint took of it."""
    assert burst(64, takes).places == takes


def test_what_was_answered_during_a_burst_counts_as_taken() -> None:
    """Refusals that come late, after some of the burst were answered, don't lower it below what was taken."""
    fit = refused(Fit(64, 64), 0.0, 0.1, 20)
    for _ in range(8):
        fit = decide(Seen(End.ANSWERED, 0.0, 0.6, 64, 12), fit)
    assert refused(fit, 0.0, 0.7, 0).places == 8


def test_all_refused_leaves_one() -> None:
    """One may always be in flight: somebody has to find out."""
    assert burst(8, 0).places == 1


def test_more_is_tried_one_at_a_time_with_growing_pauses() -> None:
    """A step up that is refused is taken back, and the next one comes after twice the time."""
    fit, now, steps = burst(64, 4), 0.1, []
    while now < 130.0:
        now += 0.25
        fit = grown(now, fit.places, fit)
        if fit.places > 4:
            steps.append(now)
            fit = refused(fit, now, now + 0.02, 4)
    assert fit.places == 4
    assert len(steps) == 7
    assert steps[-1] - steps[-2] >= 32.0


def test_where_more_is_taken_it_is_back_soon() -> None:
    """A limit that is gone holds nobody: steps double while none of them is refused."""
    fit, now = burst(64, 2), 0.1
    while fit.narrowed:
        now += 0.25
        fit = grown(now, fit.places, fit)
    assert now <= 12.0
    assert not fit.watches


def test_nothing_is_tried_where_the_places_are_not_used() -> None:
    """An idle place proves nothing."""
    fit = burst(64, 4)
    assert grown(100.0, 3, fit) is fit


def break_rounds(fit: Fit, attempts: int, begin: float = 0.0) -> Fit:
    """So many attempts with others beside them break, in two rounds of which the second one counts."""
    fit = decide(Seen(End.BROKEN, begin, begin + 0.1, 64, 63), fit)
    for _ in range(attempts):
        fit = decide(Seen(End.BROKEN, begin + 0.1, begin + 0.2, 8, 7), fit)
    return fit


def test_attempts_that_break_in_company_go_down_to_one() -> None:
    """Most break with many in flight: one is asked alone, which tells whether that is why."""
    fit = break_rounds(Fit(64, 64), 8)
    assert (fit.places, fit.broken) == (1, True)


def test_one_event_that_breaks_all_in_flight_changes_nothing() -> None:
    """A server that dies breaks all that it had: only what is sent afterwards tells more."""
    fit = Fit(64, 64)
    for _ in range(64):
        fit = decide(Seen(End.BROKEN, 0.0, 0.1, 64, 10), fit)
    assert not fit.narrowed


def test_a_connection_refused_explains_the_breaks() -> None:
    """A server that was down afterwards had died: nothing is lowered."""
    fit = break_rounds(Fit(64, 64), 7)
    fit = decide(Seen(End.UNREACHED, 0.3, 0.3, 8, 7), fit)
    assert not break_rounds(fit, 7, 0.4).narrowed


def test_few_breaks_among_many_answers_change_nothing() -> None:
    """An endpoint that breaks every third answer is not told from its number in flight."""
    fit = decide(Seen(End.BROKEN, 0.0, 0.1, 64, 63), Fit(64, 64))
    for number in range(300):
        fit = decide(Seen(End.ANSWERED if number % 3 else End.BROKEN, 0.2, 0.3, 64, 63), fit)
    assert not fit.narrowed


def test_one_alone_that_breaks_too_gives_all_places_back() -> None:
    """Where even one at a time breaks off, it has another reason: for a while breaks lower nothing."""
    fit = break_rounds(Fit(64, 64), 8)
    for _ in range(3):
        fit = decide(Seen(End.BROKEN, 1.0, 2.0, 1, 0), fit)
    assert fit.places == 64
    assert not break_rounds(fit, 20, 3.0).narrowed


def test_a_second_in_flight_that_breaks_is_not_tried_often() -> None:
    """What breaks was paid for: after ten minutes there were less than a dozen of them."""
    fit, now, tried = break_rounds(Fit(64, 64), 8), 1.0, 0
    while now < 600.0:
        now += 0.25
        fit = grown(now, fit.places, fit)
        if fit.places > 1:
            tried += 1
            fit = decide(Seen(End.BROKEN, now, now + 0.1, 2, 1), fit)
    assert fit.places == 1
    assert tried <= 10


class AtOnce:
    """Takes `most` at once, each for half a second; refuses more as `fault` says."""

    def __init__(self, clock: FakeClock, most: int, fault: EndpointError) -> None:
        self.clock, self.most, self.fault = clock, most, fault
        self.in_flight = self.refused = 0

    async def complete(self, _request: Request) -> Answer:
        if self.in_flight >= self.most:
            self.refused += 1
            await self.clock.sleep(0.02)
            raise self.fault
        self.in_flight += 1
        await self.clock.sleep(0.5)
        self.in_flight -= 1
        return ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("stated_s", [None, 0.0, 60.0], ids=["no wait", "none", "a minute"])
async def test_an_endpoint_that_takes_four_at_once_is_used(stated_s: float | None) -> None:
    """As fast as with the right --concurrency, with few refusals, and told once; a wait that is stated for what is in
    flight holds nobody.
    """
    clock, heard = FakeClock(), list[Event]()
    fault = EndpointError(Kind.RATE_LIMITED, "parallel", retry_after_s=stated_s, at_once=stated_s == 60.0)
    endpoint = AtOnce(clock, 4, fault)
    limits = Limits(32, None, clock, hear=heard.append)
    complete = limits.wrap(endpoint.complete)
    left = 480
    begin = clock.now()

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await complete(REQUEST)
            except EndpointError:
                left += 1
                await clock.sleep(0.3)

    async with anyio.create_task_group() as group:
        for _ in range(36):
            group.start_soon(work)
    assert clock.now() - begin <= 60.0 / 0.9
    assert endpoint.refused <= 28 + 10
    assert heard == [Narrowed(4)]


@pytest.mark.anyio
async def test_places_grow_and_shrink_under_those_who_have_them() -> None:
    """Who has a place keeps it; nobody new comes in before there is room; a larger size lets in at once, in order."""
    places, entered = Places(2), list[int]()

    async def enter(number: int) -> None:
        await places.line_up()
        entered.append(number)

    assert places.enter_now()
    assert places.enter_now()
    assert not places.enter_now()
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(enter, number)
            await anyio.wait_all_tasks_blocked()
        places.resize(1)
        places.leave()
        await anyio.wait_all_tasks_blocked()
        assert entered == []
        places.leave()
        await anyio.wait_all_tasks_blocked()
        assert entered == [0]
        places.resize(3)
    assert entered == [0, 1, 2]


@pytest.mark.anyio
async def test_who_leaves_the_line_takes_no_place_along() -> None:
    """A wait that is cancelled gives up its turn, also where the place was given in the same moment."""
    places = Places(1)
    assert places.enter_now()
    gone, late, last = places.line_up(), places.line_up(), places.line_up()
    places.give_up(gone)
    places.leave()
    assert late.done()
    places.give_up(late)
    assert last.done()
