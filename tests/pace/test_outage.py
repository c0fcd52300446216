"""Outages met by the whole of pacing, put together as a run does it (endpoint.md §4–§5): an hour of them ends no row, asks
little, and is over for the rows soon after it is over.
"""

import collections
import random
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from batchrun.errors import EndpointError, Kind
from batchrun.job import Retry
from batchrun.pace import alarm, guard, pulse
from batchrun.pace.guard import Guard, Stopped
from batchrun.pace.limits import Limits
from batchrun.pace.pulse import Pulse
from batchrun.pace.retry import retrying
from batchrun.records import Answer, Complete, Request, Usage
from virtual import LoopClock, VirtualLoop

ANSWER = Answer("x", Usage(1, 1, 2), latency_s=2.0)
PLACES, WINDOW = 8, 24
BEGINS, HOUR = 200.0, 3600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def numbered(row: int) -> Request:
    return Request(row, str(row), "default", 0, b"{}", f"h{row}", "m")


class Run:
    """A run against an endpoint: `says` gives the fault of a row at a second of the run, None for an answer, which takes
    two seconds. A fault takes a tenth of one, a timeout a minute.
    """

    def __init__(
        self,
        says: Callable[[int, float], Kind | None],
        settings: Retry = Retry(),  # noqa: B008 - frozen
        places: int = PLACES,
    ) -> None:
        self.places = places
        self.answer_s = 2.0
        self.clock = LoopClock()
        self.says = says
        self.asked: list[tuple[float, int]] = []
        self.ended: dict[int, object] = {}
        self.paused: list[tuple[float, float]] = []
        self.resumed: list[float] = []
        self.gave_up: list[float] = []
        self.left: collections.deque[int] = collections.deque()
        self.tasks: TaskGroup | None = None
        self.pulse = Pulse(self.clock, lambda: not self.left)
        self.guard = Guard(
            self.clock,
            lambda _, patience_s: self.paused.append((self.at, patience_s)),
            lambda _, answered: self.resumed.append(self.at) if answered else self.gave_up.append(self.at),
            scout=self._scout,
            pulse=self.pulse,
        )
        self.stack(self._answer, settings)

    def stack(self, answer: Complete, settings: Retry = Retry()) -> None:  # noqa: B008 - frozen
        """Put pacing around `answer`, as a session does."""
        limits = Limits(self.places, None, self.clock, admit=self.guard.check)
        attempts = self.guard.wrap(limits.wrap(self.guard.admit(answer)))
        self.complete = retrying(attempts, settings, self.clock, lambda _: None, self.guard.suspend, self.pulse)

    @property
    def at(self) -> float:
        return self.clock.now() - 100.0

    async def __call__(self, rows: Iterable[int]) -> None:
        self.left.extend(rows)

        async def work() -> None:
            while self.left:
                await self.ask(self.left.popleft())

        async with anyio.create_task_group() as self.tasks:
            for _ in range(self.places + WINDOW - PLACES):
                self.tasks.start_soon(work)

    async def ask(self, row: int) -> None:
        try:
            self.ended[row] = await self.complete(numbered(row))
        except EndpointError as error:
            self.ended[row] = error.kind
        except Stopped:
            self.ended[row] = Stopped

    def rows(self, end: object) -> set[int]:
        """The rows that ended so."""
        return {row for row, one in self.ended.items() if one is end or (end is ANSWER and isinstance(one, Answer))}

    def _scout(self) -> None:
        if self.left and self.tasks is not None:
            self.tasks.start_soon(self.ask, self.left.pop())

    def asked_between(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at, _ in self.asked)

    async def _answer(self, request: Request) -> Answer:
        began = self.clock.now()
        self.asked.append((self.at, request.row))
        kind = self.says(request.row, self.at)
        await self.clock.sleep(self.answer_s if kind is None else 60.0 if kind is Kind.TIMEOUT else 0.1)
        if kind is None:
            return ANSWER if self.answer_s == ANSWER.latency_s else Answer("x", Usage(1, 1, 2), latency_s=self.answer_s)
        error = EndpointError(kind, f"{kind}!")
        error.began_at = began
        raise error


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.TIMEOUT, Kind.DISCONNECTED, Kind.MALFORMED])
async def test_an_hour_of_it_ends_no_row_and_asks_little(kind: Kind) -> None:
    """Whether the endpoint answers with faults or not at all: one probe at a time, twelve a minute at most (one where it
    may cost something), and the run goes on soon after the end. Each is told once.
    """
    run = Run(lambda _, at: kind if BEGINS < at < BEGINS + HOUR else None)
    await run(range(1800))
    assert len(run.rows(ANSWER)) == 1800
    ((paused, patience_s),) = run.paused
    (resumed,) = run.resumed
    assert paused < BEGINS + 130.0
    assert patience_s == pytest.approx(alarm.SILENT_S - pulse.LASTING_S, abs=130.0)
    longest = guard.LONGEST_TURN_WAIT_S if kind is Kind.SERVER else guard.LONGEST_PROBE_WAIT_S
    assert run.asked_between(paused, BEGINS + HOUR) <= PLACES + 8 + HOUR / longest
    if kind is not Kind.SERVER:  # what may be billed each time is not asked for again and again
        assert max(collections.Counter(row for _, row in run.asked).values()) <= Retry().max_attempts + 2
    assert resumed < BEGINS + HOUR + longest + (62.0 if kind is Kind.TIMEOUT else 3.0)


@pytest.mark.anyio
async def test_rows_that_are_never_answered_do_not_hold_the_others_in_an_outage() -> None:
    """The rows are probes in turn: when the endpoint is well again, those that it never answers keep nobody waiting."""
    bad = set(range(795, 807))

    def says(row: int, at: float) -> Kind | None:
        return Kind.SERVER if row in bad or BEGINS < at < BEGINS + 300.0 else None

    run = Run(says)
    await run(range(900))
    assert (run.rows(Kind.SERVER), len(run.rows(ANSWER))) == (bad, 900 - len(bad))
    assert len(run.paused) == 1
    assert run.resumed[0] < BEGINS + 300.0 + (len(bad) + 1) * guard.LONGEST_TURN_WAIT_S


@pytest.mark.anyio
@pytest.mark.parametrize("bad", [range(300, 450), range(40, 60), range(100)])
async def test_a_block_of_rows_that_are_never_answered_is_no_outage(bad: range) -> None:
    """Rows that an endpoint can't bear may stand together, more of them than are in progress: one that stands far from them
    is asked, and its answer tells. They end as any row does that fails alone.
    """
    run = Run(lambda row, _: Kind.SERVER if row in bad else None)
    await run(range(1000))
    assert (run.rows(Kind.SERVER), run.guard.fault) == (set(bad), None)
    assert all(resumed - paused < 10.0 for (paused, _), resumed in zip(run.paused, run.resumed, strict=True))
    assert run.at < 1000 * 2.0 / PLACES + 90.0 * len(bad) / WINDOW + 120.0


@pytest.mark.anyio
async def test_every_second_answer_a_fault_is_no_outage() -> None:
    """A relay that fails at random is asked all the while: eight faults in a row are met by chance."""
    draws = random.Random(3)
    run = Run(lambda _row, _at: Kind.SERVER if draws.random() < 0.5 else None)
    await run(range(800))
    assert (run.paused, list(run.ended.values()).count(ANSWER)) == ([], pytest.approx(800, abs=12))


@pytest.mark.anyio
async def test_an_outage_that_does_not_end_stops_the_run() -> None:
    """After two hours with nobody answered the run is stopped, and no row is failed."""
    run = Run(lambda _, at: Kind.SERVER if at > BEGINS else None)
    await run(range(2600))
    assert set(run.ended.values()) == {ANSWER, Stopped}
    assert BEGINS + alarm.SILENT_S - 20.0 <= run.at <= BEGINS + alarm.SILENT_S + 60.0
    assert run.resumed == []
    assert run.guard.message().startswith("stopped (server): server!; the endpoint answers nobody")


@pytest.mark.anyio
async def test_a_refusal_of_one_row_ends_the_outage() -> None:
    """It comes from an endpoint that is well."""
    ends = BEGINS + 100.0
    run = Run(lambda _, at: None if at < BEGINS or at > ends + 50.0 else Kind.SERVER if at < ends else Kind.BAD_REQUEST)
    await run(range(900))
    assert len(run.paused) == len(run.resumed) == 1
    assert run.resumed[0] < ends + guard.LONGEST_TURN_WAIT_S + 1.0
    assert set(run.ended.values()) == {ANSWER, Kind.BAD_REQUEST}


@pytest.mark.anyio
async def test_a_rate_limit_says_nothing_of_an_outage() -> None:
    """A relay may limit while what stands behind it is out: one pause, with one probe at a time, until one is answered."""
    draws = random.Random(5)
    ends = BEGINS + 1800.0
    kinds = (Kind.SERVER, Kind.RATE_LIMITED)
    run = Run(lambda _, at: draws.choice(kinds) if BEGINS < at < ends else None)
    await run(range(1800))
    assert len(run.rows(ANSWER)) == 1800
    assert len(run.paused) == len(run.resumed) == 1
    assert run.asked_between(run.paused[0][0], ends) < 1800.0 / guard.LONGEST_TURN_WAIT_S + 20


@pytest.mark.anyio
async def test_a_key_that_is_refused_after_an_outage_stops_the_run() -> None:
    """A probe of an outage that meets a fault of everybody's leads to the probe of that."""
    run = Run(lambda _, at: None if at < BEGINS else Kind.SERVER if at < BEGINS + 100.0 else Kind.CREDENTIALS)
    await run(range(900))
    assert set(run.ended.values()) == {ANSWER, Stopped}
    assert run.guard.fault is not None
    assert run.guard.fault.kind is Kind.CREDENTIALS


@pytest.mark.anyio
async def test_what_was_on_the_wire_before_does_not_end_it() -> None:
    """An answer to a request that was sent before the outage says nothing of those that are sent now."""
    run = Run(lambda _, at: Kind.SERVER if BEGINS < at < BEGINS + 500.0 else None)

    async def answer_late(request: Request) -> Answer:
        if request.row != 0:
            return await run._answer(request)
        await run.clock.sleep(BEGINS + 300.0)
        return Answer("x", Usage(1, 1, 2), latency_s=BEGINS + 300.0)

    run.stack(answer_late)
    await run(range(3000))
    assert [one for one in run.ended.values() if not isinstance(one, Answer)] == []
    assert run.resumed == [pytest.approx(BEGINS + 500.0, abs=guard.LONGEST_TURN_WAIT_S + 3.0)]


@pytest.mark.anyio
async def test_answers_that_trickle_in_hide_no_outage() -> None:
    """While those that were on the wire are still answered, one by one, all that are sent fail: none of them is ended."""
    fell = BEGINS + 1.0
    run = Run(lambda _, at: Kind.SERVER if fell < at < BEGINS + 600.0 else None)
    slow = run._answer

    async def answer(request: Request) -> Answer:
        began = run.clock.now()
        if run.at < fell:
            await run.clock.sleep(random.Random(request.row).uniform(0.0, 100.0))
        got = await slow(request) if began - 100.0 >= fell else ANSWER
        return Answer("x", Usage(1, 1, 2), latency_s=run.clock.now() - began) if got else got

    run.stack(answer, Retry(max_attempts=4))
    await run(range(300))
    assert Kind.SERVER not in run.ended.values()


@pytest.mark.anyio
@pytest.mark.parametrize("last", [1, 5, WINDOW, 60])
async def test_the_last_rows_of_a_job_wait_too(last: int) -> None:
    """With few or no fresh rows to tell an outage by, the last ones are asked for as long as the endpoint had been
    answering.
    """
    rows = 1200
    ends: list[float] = []

    def says(row: int, at: float) -> Kind | None:
        if row < rows - last:
            return None
        ends.append(at + 200.0) if not ends else None
        return Kind.SERVER if at < ends[0] else None

    run = Run(says)
    await run(range(rows))
    assert len(run.rows(ANSWER)) == rows


@pytest.mark.anyio
async def test_a_small_job_outlives_an_outage_of_a_minute_and_a_half() -> None:
    """All its rows are in progress, and the endpoint had only just begun to answer: two minutes are waited for all the same."""
    run = Run(lambda _, at: Kind.SERVER if 5.0 < at < 105.0 else None)
    await run(range(60))
    assert len(run.rows(ANSWER)) == 60


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.DISCONNECTED])
@pytest.mark.parametrize("last", [1, 5, 20, 60])
async def test_the_last_rows_do_not_wait_for_ever(kind: Kind, last: int) -> None:
    """Rows that are never answered end when nothing is left beside them, after as long as the endpoint had been answering:
    it was perhaps an outage.
    """
    rows = 1200
    run = Run(lambda row, _: kind if row >= rows - last else None)
    await run(range(rows))
    assert run.rows(kind) == set(range(rows - last, rows))
    assert run.guard.fault is None
    answering_s = rows * 2.0 / PLACES  # five minutes
    assert all(patience_s <= max(answering_s, alarm.SILENT_S * (last > WINDOW)) for _, patience_s in run.paused)
    assert len(run.gave_up) == len(run.paused)
    longest = guard.LONGEST_TURN_WAIT_S if kind is Kind.SERVER else guard.LONGEST_PROBE_WAIT_S
    assert run.at < 2 * answering_s + 180.0 + longest * max(0, last - WINDOW)


@pytest.mark.anyio
async def test_what_waited_for_another_probe_has_its_turn_too() -> None:
    """An outage that begins where an unreachable endpoint comes back: every row that waited is a probe in turn, not only the
    one that was the probe before, which may never be answered.
    """
    first: list[int] = []

    def says(row: int, at: float) -> Kind | None:
        if BEGINS < at < BEGINS + 60.0:
            return Kind.CONNECT
        if at >= BEGINS + 60.0 and not first:
            first.append(row)
        return Kind.SERVER if row in first else None

    for left in (1000, WINDOW):
        first.clear()
        run = Run(says)
        await run(range(800 + left))
        assert (run.guard.fault, run.rows(ANSWER)) == (None, set(range(800 + left)) - set(first))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.NOT_FOUND, Kind.CREDENTIALS])
async def test_one_rows_own_refusal_after_an_outage_stops_nobody(kind: Kind) -> None:
    """The first row that is asked after it may be one that is refused like a wrong key: the others have their answers."""
    refused: list[int] = []

    def says(row: int, at: float) -> Kind | None:
        if at >= BEGINS + 600.0 and not refused:
            refused.append(row)
        return Kind.SERVER if BEGINS < at < BEGINS + 600.0 else kind if row in refused else None

    run = Run(says)
    await run(range(1400))
    assert run.guard.fault is None
    assert run.rows(kind) == set(refused)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "most"), [(Kind.SERVER, 2), (Kind.DISCONNECTED, 2), (Kind.DISCONNECTED, 8)])
async def test_slow_answers_and_quick_faults(kind: Kind, most: int) -> None:
    """Answers of half a minute come in long after an outage began: what is sent meanwhile, and fails at once, fails for no
    row's sake, whatever `max_attempts` is.
    """
    run = Run(lambda _, at: kind if BEGINS < at < BEGINS + 600.0 else None)
    run.answer_s = 30.0
    run.stack(run._answer, Retry(max_attempts=most))
    await run(range(400))
    assert len(run.rows(ANSWER)) >= 400 - pulse.OUTAGE_ROWS


@pytest.mark.anyio
async def test_quick_faults_beside_slow_answers_are_no_outage() -> None:
    """One row in ten fails at once and always, the others take half a minute: those rows end, and the wire is kept busy."""
    run = Run(lambda row, _: Kind.SERVER if row % 10 == 7 else None, places=64)
    run.answer_s = 30.0
    await run(range(1200))
    assert run.rows(Kind.SERVER) == set(range(7, 1200, 10))
    assert run.paused == []
    assert run.at < 1.4 * 1080 * 30.0 / 64 + 60.0
    assert len(run.asked) <= 1080 + 120 * Retry().max_attempts


@pytest.mark.anyio
async def test_a_whole_job_is_not_failed_by_an_endpoint_that_is_out_from_the_start() -> None:
    """With few attempts allowed all rows would have failed in a moment: instead the run waits a minute, and is stopped."""
    run = Run(lambda _row, _at: Kind.SERVER, Retry(max_attempts=2))
    await run(range(1000))
    assert len(run.rows(Kind.SERVER)) <= pulse.NEVER_ANSWERED_ROWS
    assert run.guard.fault is not None
    assert 50.0 < run.at < 100.0


@pytest.mark.anyio
async def test_a_fault_that_is_not_to_be_retried_ends_no_row_in_an_outage() -> None:
    """`x-should-retry: false` with every fault: what holds for one row does not hold for all of them."""
    run = Run(lambda _, at: Kind.SERVER if BEGINS < at < BEGINS + 600.0 else None)
    plain = run._answer

    async def final(request: Request) -> Answer:
        try:
            return await plain(request)
        except EndpointError as error:
            error.should_retry = False
            raise

    run.stack(final)
    await run(range(1200))
    assert len(run.rows(ANSWER)) >= 1200 - pulse.OUTAGE_ROWS


@pytest.mark.anyio
async def test_a_rate_limit_does_not_end_a_row_that_is_kept() -> None:
    """One of the last rows that goes on beyond `max_attempts`, as it may be an outage, is not ended by what doesn't count."""
    last = 1199

    def says(row: int, at: float) -> Kind | None:
        if row != last or at > 520.0:
            return None
        return Kind.SERVER if at < 450.0 else Kind.RATE_LIMITED

    run = Run(says, Retry(max_wait_s=10.0))
    await run(range(1200))
    assert run.rows(ANSWER) == set(range(1200))
