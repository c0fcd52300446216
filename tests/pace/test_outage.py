"""Outages met by the whole of pacing, put together as a run does it (endpoint.md §4–§5): an hour of them ends no row, asks
little, and is over for the rows soon after it is over.
"""

import collections
import random
from typing import Any

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer, Request
from batchrun.runner.backlog import FEW
from batchrun.sections import Retry
from batchrun.stop import UNANSWERED, Stopped
from virtual import BEGIN, VirtualLoop

from .run import PLACES, POLICY, Run, answer_of

WINDOW = 24
BEGINS, HOUR = 200.0, 3600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.TIMEOUT, Kind.DISCONNECTED, Kind.MALFORMED])
async def test_an_hour_of_it_ends_no_row_and_asks_little(kind: Kind) -> None:
    """Whether the endpoint answers with faults or not at all: one probe at a time, twelve a minute at most (one where it
    may cost something), and the run goes on soon after the end. Each is told once.
    """
    run = Run(lambda _, at: kind if BEGINS < at < BEGINS + HOUR else None)
    await run(range(1800))
    assert len(run.rows(Answer)) == 1800
    ((paused, patience_s),) = run.paused
    (resumed,) = run.resumed
    assert paused < BEGINS + 130.0
    assert patience_s == pytest.approx(POLICY.silent_s - POLICY.lasting_s, abs=130.0)
    longest = POLICY.longest_free_wait_s if kind is Kind.SERVER else POLICY.longest_probe_wait_s
    assert run.asked_between(paused, BEGINS + HOUR) <= PLACES + 8 + HOUR / longest
    if kind is not Kind.SERVER:  # what may be billed each time is not asked for again and again
        assert max(collections.Counter(row for _, row in run.asked).values()) <= Retry().max_attempts + 3
    assert resumed < BEGINS + HOUR + longest + (62.0 if kind is Kind.TIMEOUT else 3.0)


@pytest.mark.anyio
async def test_rows_that_are_never_answered_do_not_hold_the_others_in_an_outage() -> None:
    """The rows are probes in turn: when the endpoint is well again, those that it never answers keep nobody waiting."""
    bad = set(range(795, 807))

    def says(row: int, at: float) -> Kind | None:
        return Kind.SERVER if row in bad or BEGINS < at < BEGINS + 300.0 else None

    run = Run(says)
    await run(range(900))
    assert (run.rows(Kind.SERVER), len(run.rows(Answer))) == (bad, 900 - len(bad))
    assert len(run.paused) == 1
    assert run.resumed[0] < BEGINS + 300.0 + (len(bad) + 1) * POLICY.longest_free_wait_s


@pytest.mark.anyio
@pytest.mark.parametrize("bad", [range(300, 450), range(40, 60), range(100)])
async def test_a_block_of_rows_that_are_never_answered_is_no_outage(bad: range) -> None:
    """Rows that an endpoint can't bear may stand together, more of them than are in progress: one that stands far from them
    is asked, and its answer tells. They end as any row does that fails alone.
    """
    run = Run(lambda row, _: Kind.SERVER if row in bad else None)
    await run(range(1000))
    assert (run.rows(Kind.SERVER), run.sign.stop) == (set(bad), None)
    assert all(resumed - paused < 10.0 for (paused, _), resumed in zip(run.paused, run.resumed, strict=True))
    assert run.at < 1000 * 2.0 / PLACES + 90.0 * len(bad) / WINDOW + 120.0


@pytest.mark.anyio
async def test_every_second_answer_a_fault_is_no_outage() -> None:
    """A relay that fails at random is asked all the while: eight faults in a row are met by chance."""
    draws = random.Random(3)
    run = Run(lambda _row, _at: Kind.SERVER if draws.random() < 0.5 else None)
    await run(range(800))
    assert (run.paused, len(run.rows(Answer))) == ([], pytest.approx(800, abs=12))


@pytest.mark.anyio
async def test_an_outage_that_does_not_end_stops_the_run() -> None:
    """After two hours with nobody answered the run is stopped, and no row is failed."""
    run = Run(lambda _, at: Kind.SERVER if at > BEGINS else None)
    await run(range(2600))
    assert run.rows(Answer) | run.rows(Stopped) == set(run.ended)
    assert BEGINS + POLICY.silent_s - 20.0 <= run.at <= BEGINS + POLICY.silent_s + 60.0
    assert run.resumed == []
    assert run.sign.stop is not None
    assert run.sign.stop.message.startswith("stopped (server): server!; the endpoint does not answer")


@pytest.mark.anyio
async def test_a_refusal_of_one_row_ends_the_outage() -> None:
    """It comes from an endpoint that is well."""
    ends = BEGINS + 100.0
    run = Run(lambda _, at: None if at < BEGINS or at > ends + 50.0 else Kind.SERVER if at < ends else Kind.BAD_REQUEST)
    await run(range(900))
    assert len(run.paused) == len(run.resumed) == 1
    assert run.resumed[0] < ends + POLICY.longest_free_wait_s + 1.0
    assert run.rows(Answer) | run.rows(Kind.BAD_REQUEST) == set(range(900))


@pytest.mark.anyio
async def test_a_rate_limit_says_nothing_of_an_outage() -> None:
    """A relay may limit while what stands behind it is out: one pause, with one probe at a time, until one is answered."""
    draws = random.Random(5)
    ends = BEGINS + 1800.0
    kinds = (Kind.SERVER, Kind.RATE_LIMITED)
    run = Run(lambda _, at: draws.choice(kinds) if BEGINS < at < ends else None)
    await run(range(1800))
    assert len(run.rows(Answer)) == 1800
    assert len(run.paused) == len(run.resumed) == 1
    assert run.asked_between(run.paused[0][0], ends) < 1800.0 / POLICY.longest_free_wait_s + 20


@pytest.mark.anyio
async def test_a_key_that_is_refused_after_an_outage_stops_the_run() -> None:
    """A probe of an outage that meets a fault of everybody's leads to the probe of that."""
    run = Run(lambda _, at: None if at < BEGINS else Kind.SERVER if at < BEGINS + 100.0 else Kind.CREDENTIALS)
    await run(range(900))
    assert run.rows(Answer) | run.rows(Stopped) == set(run.ended)
    assert run.sign.stop is not None
    assert run.sign.stop.kind == Kind.CREDENTIALS


@pytest.mark.anyio
async def test_what_was_on_the_wire_before_does_not_end_it() -> None:
    """An answer to a request that was sent before the outage says nothing of those that are sent now."""
    run = Run(lambda _, at: Kind.SERVER if BEGINS < at < BEGINS + 500.0 else None)

    async def answer_late(request: Request) -> Answer:
        if request.row != 0:
            return await run.answer(request)
        await run.clock.sleep(BEGINS + 300.0)
        return answer_of(BEGINS + 300.0)

    run.stack(answer_late)
    await run(range(3000))
    assert [one for one in run.ended.values() if not isinstance(one, Answer)] == []
    assert run.resumed == [pytest.approx(BEGINS + 500.0, abs=POLICY.longest_free_wait_s + 3.0)]


@pytest.mark.anyio
async def test_answers_that_trickle_in_hide_no_outage() -> None:
    """While those that were on the wire are still answered, one by one, all that are sent fail: none of them is ended."""
    fell = BEGINS + 1.0
    run = Run(lambda _, at: Kind.SERVER if fell < at < BEGINS + 600.0 else None, Retry(max_attempts=4))
    slow = run.answer

    async def answer(request: Request) -> Answer:
        began = run.clock.now()
        if run.at < fell:
            await run.clock.sleep(random.Random(request.row).uniform(0.0, 100.0))
        if began - BEGIN >= fell:
            return await slow(request)
        return answer_of(run.clock.now() - began)

    run.stack(answer)
    await run(range(300))
    assert Kind.SERVER not in run.ended.values()


@pytest.mark.anyio
@pytest.mark.parametrize("last", [1, 5, WINDOW, 60])
async def test_the_last_rows_of_a_job_wait_too(last: int) -> None:
    """With few or no fresh rows to tell an outage by, the last ones are asked for as long as the endpoint had been
    answering.
    """
    rows = 1200 + last
    ends: list[float] = []

    def says(row: int, at: float) -> Kind | None:
        if row < rows - last:
            return None
        ends.append(at + 200.0) if not ends else None
        return Kind.SERVER if at < ends[0] else None

    run = Run(says)
    await run(range(rows))
    assert len(run.rows(Answer)) == rows


@pytest.mark.anyio
async def test_a_small_job_outlives_an_outage_of_a_minute_and_a_half() -> None:
    """All its rows are in progress, and the endpoint had only just begun to answer: two minutes are waited for all the same."""
    run = Run(lambda _, at: Kind.SERVER if 5.0 < at < 105.0 else None)
    await run(range(60))
    assert len(run.rows(Answer)) == 60


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.DISCONNECTED])
@pytest.mark.parametrize("last", [1, 5, 20, 60])
async def test_the_last_rows_do_not_wait_for_ever(kind: Kind, last: int) -> None:
    """Rows that are never answered, and have nothing left beside them to tell them from an outage, stop the run after as
    long as the endpoint had been answering, half a minute at least: they may be good. Where a
    person says that such rows shall fail, they do.
    """
    rows = 1200
    run = Run(lambda row, _: kind if row >= rows - last else None)
    await run(range(rows))
    assert run.rows(Kind.SERVER) | run.rows(Kind.DISCONNECTED) <= set(range(rows - last, rows))
    assert run.rows(Answer) == set(range(rows - last))
    answering_s = rows * 2.0 / PLACES  # five minutes
    longest_s = answering_s if last <= WINDOW else POLICY.silent_s
    assert run.at < answering_s + longest_s + 70.0
    left = set(range(rows)) - run.rows(Answer) - run.rows(kind)
    assert (run.sign.stop is not None) == bool(left)
    if left:
        assert run.sign.stop is not None
        assert run.sign.stop.kind == UNANSWERED
        again = Run(lambda _row, _at: kind, others_ok=True, gives_up=True)
        began = again.at
        await again(left)
        assert again.rows(kind) == left
        assert again.at - began < 1000.0


@pytest.mark.anyio
async def test_no_row_fails_of_an_endpoint_that_answered_nobody() -> None:
    """Whatever a person says: it is down, or its address is wrong."""
    run = Run(lambda _row, _at: Kind.SERVER, gives_up=True)
    await run(range(5))
    assert run.rows(Stopped) == set(range(5))


@pytest.mark.anyio
async def test_the_same_command_during_an_outage_fails_no_row() -> None:
    """A call that begins while the outage goes on knows no more than the one before it."""
    run = Run(lambda _row, at: Kind.SERVER if at < 600.0 else None, others_ok=True, asked_before=True)
    await run(range(2))
    assert run.rows(Stopped) == {0, 1}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("rows", "places", "begins", "seconds"), [(300, 8, 30, 1200), (600, 8, 30, 3000), (900, 64, 10, 3000)]
)
async def test_a_job_that_is_not_large_outlives_a_long_outage(
    rows: int, places: int, begins: int, seconds: int
) -> None:
    """The few rows far ahead that are asked in an outage are few: they don't use up what is left, and every row is answered."""
    run = Run(lambda _, at: Kind.SERVER if begins < at < begins + seconds else None, places=places)
    await run(range(rows))
    assert run.rows(Answer) == set(range(rows))
    assert len(run.paused) == len(run.resumed) == 1


@pytest.mark.anyio
async def test_a_large_block_of_rows_that_are_never_answered_costs_one_pause() -> None:
    """Once a row far ahead was answered, others are asked beside the block: their answers show that the endpoint is well, so
    that each row of the block ends by its own attempts.
    """
    bad = set(range(500, 900))
    run = Run(lambda row, _: Kind.SERVER if row in bad else None, places=64)
    await run(range(2000))
    assert (run.rows(Kind.SERVER), run.rows(Answer)) == (bad, set(range(2000)) - bad)
    assert len(run.paused) == len(run.resumed) == 1


@pytest.mark.anyio
async def test_a_row_that_the_server_dies_of_takes_nobody_along() -> None:
    """While one row is on the wire the server dies, with all that is in flight, and is back some seconds later. In the end
    that row is asked alone, and fails; all others have their answers.
    """
    run = Run(lambda _row, _at: None, places=8)
    died, down_until = -1.0, -1.0

    async def fragile(request: Request) -> Answer:
        nonlocal died, down_until
        began = run.at
        run.asked.append((began, request.row))
        if began < down_until:
            raise EndpointError(Kind.CONNECT, "refused")
        if request.row == 40:
            await anyio.sleep(0.5)
            died, down_until = run.at, run.at + 5.0
            raise EndpointError(Kind.DISCONNECTED, "reset")
        await anyio.sleep(1.0)
        if died > began:
            raise EndpointError(Kind.DISCONNECTED, "reset")
        return answer_of(1.0)

    run.stack(fragile)
    await run(range(800))
    assert run.rows(Kind.DISCONNECTED) == {40}
    assert run.rows(Answer) == set(range(800)) - {40}
    assert [row for _, row in run.asked].count(40) <= 10


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
        assert (run.sign.stop, run.rows(Answer)) == (None, set(range(800 + left)) - set(first))


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
    assert run.sign.stop is None
    assert run.rows(kind) == set(refused)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "most"), [(Kind.SERVER, 2), (Kind.DISCONNECTED, 2), (Kind.DISCONNECTED, 8)])
async def test_slow_answers_and_quick_faults(kind: Kind, most: int) -> None:
    """Answers of half a minute come in long after an outage began: what is sent meanwhile, and fails at once, fails for no
    row's sake, whatever `max_attempts` is.
    """
    run = Run(lambda _, at: kind if BEGINS < at < BEGINS + 600.0 else None, Retry(max_attempts=most), answer_s=30.0)
    await run(range(400))
    assert len(run.rows(Answer)) == 400


@pytest.mark.anyio
async def test_quick_faults_beside_slow_answers_are_no_outage() -> None:
    """One row in ten fails at once and always, the others take half a minute: those rows end, and the wire is kept busy."""
    run = Run(lambda row, _: Kind.SERVER if row % 10 == 7 else None, places=64)
    run.answer_s = 30.0
    await run(range(1200))
    # the last of them have perhaps no other row left beside them to tell them from an outage
    assert set(range(7, 1100, 10)) <= run.rows(Kind.SERVER) <= set(range(7, 1200, 10))
    assert run.paused == []
    assert max(at for at, row in run.asked if row % 10 != 7) < 1.4 * 1080 * 30.0 / 64 + 60.0
    # a fault with no other attempt beginning near it proves nothing, and is followed by one more
    assert len(run.asked) <= 1080 + 120 * (Retry().max_attempts + 2)


@pytest.mark.anyio
@pytest.mark.parametrize("rows", [1, 3, 30, 1000])
@pytest.mark.parametrize("most", [1, 2, 8])
async def test_no_row_is_failed_by_an_endpoint_that_is_out_from_the_start(rows: int, most: int) -> None:
    """Whatever the size of the job and however few attempts are allowed: the run is stopped within two minutes, with few
    requests sent.
    """
    run = Run(lambda _row, _at: Kind.SERVER, Retry(max_attempts=most))
    await run(range(rows))
    assert run.rows(Stopped) == set(run.ended)
    assert run.sign.stop is not None
    assert run.at < 120.0
    assert len(run.asked) <= 10 * PLACES


@pytest.mark.anyio
async def test_a_fault_that_is_not_to_be_retried_ends_no_row_in_an_outage() -> None:
    """`x-should-retry: false` with every fault: what holds for one row does not hold for all of them."""
    run = Run(lambda _, at: Kind.SERVER if BEGINS < at < BEGINS + 600.0 else None)
    plain = run.answer

    async def final(request: Request) -> Answer:
        try:
            return await plain(request)
        except EndpointError as error:
            error.should_retry = False
            raise

    run.stack(final)
    await run(range(1200))
    assert len(run.rows(Answer)) >= 1200 - POLICY.outage_rows


@pytest.mark.anyio
async def test_a_rate_limit_does_not_end_a_row_that_is_kept() -> None:
    """One of the last rows that goes on beyond `max_attempts`, as it may be an outage, is not ended by what doesn't count."""
    last = 1200

    def says(row: int, at: float) -> Kind | None:
        if row != last or at > 520.0:
            return None
        return Kind.SERVER if at < 450.0 else Kind.RATE_LIMITED

    run = Run(says, Retry(max_wait_s=10.0))
    await run(range(1201))
    assert run.rows(Answer) == set(range(1201))


@pytest.mark.anyio
@pytest.mark.parametrize("places", [8, 64])
@pytest.mark.parametrize("most", [1, 8])
async def test_answers_that_come_after_quick_faults_show_that_the_endpoint_is_up(places: int, most: int) -> None:
    """Every second row fails before the others can be answered: what looked like an endpoint that never answers is not
    given up as such once it has answered.
    """
    run = Run(lambda row, _: Kind.SERVER if row % 2 else None, Retry(max_attempts=most), places)
    await run(range(200))
    assert run.rows(Answer) == set(range(0, 200, 2))
    assert run.sign.stop is None or run.sign.stop.kind == UNANSWERED


@pytest.mark.anyio
@pytest.mark.parametrize("places", [8, 64, 512])
@pytest.mark.parametrize("refused", ["one in ten", "the first half", "every second"])
async def test_many_rows_that_are_refused_for_good_stop_nobody(refused: str, places: int) -> None:
    """A firewall that dislikes the text of many rows: each is asked twice or three times, and fails; the others are answered.
    The last few of them may be left for the next call.
    """
    rows = max(300, 4 * places)
    which = {
        "one in ten": range(0, rows, 10),
        "the first half": range(rows // 2),
        "every second": range(1, rows, 2),
    }
    bad = set(which[refused])
    run = Run(lambda row, _: Kind.CREDENTIALS if row in bad else None, places=places)
    await run(range(rows))
    assert run.rows(Answer) == set(range(rows)) - bad
    left = bad - run.rows(Kind.CREDENTIALS)
    assert len(left) <= FEW + 5
    assert len(run.asked) <= rows + 3 * len(bad)


@pytest.mark.anyio
async def test_a_key_that_is_refused_for_half_a_minute_fails_no_row_beside_those_that_always_are() -> None:
    """Rows that are refused before and after it end, those that were refused once wait for an answer."""
    bad = set(range(0, 300, 10))
    run = Run(lambda row, at: Kind.CREDENTIALS if row in bad or 4.0 < at < 34.0 else None, places=64)
    await run(range(300))
    assert run.rows(Answer) == set(range(300)) - bad


@pytest.mark.anyio
async def test_the_stop_at_the_last_rows_says_what_a_person_may_do() -> None:
    """The same command goes on, and there is a way to have them recorded as failed."""
    run = Run(lambda row, _: Kind.SERVER if row < 20 else None, places=64, answer_s=0.01)
    await run(range(64))
    assert run.sign.stop is not None
    assert run.sign.stop.kind == UNANSWERED
    assert "--unanswered fail" in run.sign.stop.message
