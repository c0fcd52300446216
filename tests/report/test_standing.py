"""Where a run stands: pace, time left, money and what it waits for, in one place."""

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Began, Done, Event, Held, Kept, Paused, Released, Resumed, Waiting
from batchrun.records import Result
from batchrun.report.standing import Live, Standing, read_live


class Run:
    """A standing whose clock is moved by hand."""

    def __init__(self, total: int) -> None:
        self.time = 1000.0
        self.standing = Standing(now=lambda: self.time, epoch=lambda: self.time)
        self.hear(Began(total))

    def hear(self, *events: Event) -> "Run":
        for event in events:
            self.standing.hear(event)
        return self

    def answers(self, count: int, every_s: float, cost: int | None = 7) -> "Run":
        for row in range(count):
            self.time += every_s
            self.hear(Done(Result(row, str(row), "default", 0, "h", "ok", total_tokens=10, cost=cost)))
        return self


@pytest.mark.parametrize("seconds", [2, 20, 200, 2000])
def test_rows_that_were_done_before_are_no_pace(seconds: int) -> None:
    """The time left of a run that goes on is what is left by this call's pace, however much the ledger held before."""
    run = Run(100_000).hear(Kept(60_000)).answers(10 * seconds, 0.1)
    assert run.standing.rate_per_s == pytest.approx(10.0, rel=0.02)
    assert run.standing.eta_s == pytest.approx((40_000 - 10 * seconds) / 10.0, rel=0.02)


def test_a_row_that_cannot_be_asked_is_no_pace() -> None:
    """Its result is there at once."""
    run = Run(1000)
    run.hear(*[Done(Result(0, "0", "default", 0, "", "failed"), asked=False)] * 500)
    assert run.standing.live() == Live()
    assert run.answers(30, 1.0).standing.rate_per_s == pytest.approx(1.0)
    assert run.standing.eta_s == pytest.approx(470.0)


def test_the_pace_is_that_of_the_last_minute() -> None:
    """An endpoint that has become slower, or faster, shows within a minute."""
    run = Run(100_000).answers(36_000, 0.1).answers(61, 1.0)
    assert run.standing.rate_per_s == pytest.approx(1.0, rel=0.05)
    assert run.answers(620, 0.1).standing.rate_per_s == pytest.approx(10.0, rel=0.05)


def test_few_answers_are_measured_over_a_longer_time() -> None:
    """Answers of two minutes each would be none at most moments, and many at others."""
    run = Run(1000).answers(12, 45.0)
    run.time += 44.0
    live = run.standing.live()
    assert live.rate_per_s == pytest.approx(1 / 45.0, rel=0.15)
    assert live.over_s is not None
    assert 400 < live.over_s < 600


def test_the_first_answers_are_no_pace() -> None:
    """One that comes when 63 more are on their way says nothing of how fast they will come."""
    run = Run(1000).answers(1, 0.3)
    assert run.standing.live() == Live()
    assert run.answers(63, 0.001).standing.rate_per_s == pytest.approx(64 / 0.363, rel=0.01)
    assert Run(1000).answers(1, 6.0).standing.rate_per_s == pytest.approx(1 / 6.0, rel=0.01)


def test_a_stall_slows_the_pace() -> None:
    """Where nothing comes any more the time left grows."""
    run = Run(100_000).answers(1000, 0.1)
    run.time += 300.0
    assert run.standing.rate_per_s is not None
    assert run.standing.rate_per_s < 4.0


def test_a_pause_is_no_part_of_the_pace() -> None:
    """While the run waits there is none; afterwards it is that of what follows, at once."""
    run = Run(1000).answers(100, 0.1).hear(Paused(EndpointError(Kind.SERVER, "HTTP 502"), 7190.0))
    run.time += 3600.0
    assert (run.standing.rate_per_s, run.standing.eta_s) == (None, None)
    run.hear(Resumed(3600.0))
    assert run.answers(20, 0.1).standing.rate_per_s == pytest.approx(10.0, rel=0.1)
    run.hear(Held())
    run.time += 100.0
    run.answers(5, 0.1).hear(Released(100.5))  # what was in flight came in meanwhile
    assert run.standing.rate_per_s is None
    assert run.answers(20, 0.5).standing.rate_per_s == pytest.approx(2.0, rel=0.1)


def test_money_and_tokens_are_the_whole_run_s() -> None:
    """What the ledger held before, with its failures and what has no price, and this call's on top."""
    run = Run(1000).hear(Kept(100, 3, tokens=5000, cost=10**12, unpriced=2)).answers(10, 0.1).answers(1, 0.1, cost=None)
    standing = run.standing
    assert (standing.done, standing.failed, standing.asked) == (111, 3, 11)
    assert (standing.tokens, standing.spent, standing.unpriced) == (5110, 10**12 + 70, 3)


def test_a_spent_quota_is_a_pause_with_its_end() -> None:
    """Since when and until when; a short wait of everybody is none. A later end does not move its beginning."""
    run = Run(10)
    spent = EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent")
    assert run.hear(Waiting(30.0, spent)).standing.wait is None
    run.hear(Waiting(None, spent, probed=True))
    assert run.standing.wait is not None
    assert run.standing.wait.short == "paused, quota spent"
    assert "the endpoint does not say until when" in run.standing.wait.long
    run.time += 60.0
    wait = run.hear(Waiting(86_400.0, spent, probed=True)).standing.wait
    assert wait is not None
    assert (wait.since, wait.until) == (1000.0, 87_460.0)
    assert wait.short.startswith("paused until ")
    assert " until 1970-01-0" in wait.long
    assert wait.long.endswith(", probing the endpoint now and then: HTTP 429: spent")
    assert run.hear(Resumed(61.5)).standing.wait is None


def test_of_two_pauses_the_later_one_is_shown() -> None:
    """And the other one again where that ends first."""
    run = Run(10).hear(Held(), Paused(EndpointError(Kind.CONNECT, "refused"), 60.0))
    assert run.standing.wait is not None
    assert "refused" in run.standing.wait.why
    run.hear(Resumed(3.0))
    assert run.standing.wait is not None
    assert "batchrun pause" in run.standing.wait.why
    assert run.hear(Released(5.0)).standing.wait is None


def test_others_read_what_was_written() -> None:
    """As it was; and nothing of what anybody else wrote there."""
    live = Run(1000).answers(10, 1.0).standing.live()
    assert read_live(live.encoded()) == live
    for text in ("", "paused since 2026-01-01 10:00:00 +0000, of an earlier version", '{"rate_per_s": "x"}', "[1]"):
        assert read_live(text) == Live()
