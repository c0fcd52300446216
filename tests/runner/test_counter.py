"""What a run counts, passes on, and lets others read."""

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Began, Done, Event, Kept, Paused, Resumed
from batchrun.records import Result
from batchrun.report.standing import Standing, read_live
from batchrun.runner.counter import Counter
from tests.virtual import LoopClock, VirtualLoop


def test_a_pause_is_told_to_others_until_it_ends() -> None:
    """Since when the run waits and why, at once, for `status`; nothing once it goes on. Every listener hears of both."""
    said: list[str] = []
    heard: list[Event] = []
    also: list[Event] = []
    counter = Counter(said.append, [heard.append, also.append], Standing())
    events = [Paused(EndpointError(Kind.SERVER, "HTTP 502: Bad Gateway"), 7190.0), Resumed(61.5)]
    for event in events:
        counter.hear(event)
    paused, over = map(read_live, said)
    assert paused.wait is not None
    assert paused.wait.long.startswith("paused since 20")
    assert paused.wait.long.endswith(", probing the endpoint: HTTP 502: Bad Gateway")
    assert over.wait is None
    assert heard == also == events


def test_what_was_there_before_is_not_asked() -> None:
    """`asked` counts this call's results alone; `done` has those that the ledger held, and rows that can't be asked."""
    counter = Counter(lambda _text: None, [], Standing())
    ok = Result(0, "0", "default", 0, "h", "ok")
    failed = Result(1, "1", "default", 0, "", "failed")
    for event in (Began(20), Kept(10, 3), Done(failed, asked=False), Done(ok), Done(failed)):
        counter.hear(event)
    standing = counter.standing
    assert (standing.total, standing.done, standing.failed, standing.asked) == (20, 13, 5, 2)


def test_the_pace_is_told_every_second() -> None:
    """Where others can read it, also while nothing happens; nothing is written that says the same as before."""
    said: list[str] = []

    async def tell() -> None:
        clock = LoopClock()
        counter = Counter(said.append, [], Standing(now=clock.now, epoch=clock.epoch))
        counter.hear(Began(100))
        counter.hear(Kept(50))
        with anyio.move_on_after(20.5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(counter.keep_telling)
                await anyio.sleep(9.5)
                for row in range(10):
                    counter.hear(Done(Result(row, str(row), "default", 0, "h", "ok")))

    anyio.run(tell, backend_options={"loop_factory": VirtualLoop})
    rates = [read_live(text) for text in said]
    assert len(rates) == 11, "not while there was none yet"
    assert [rates[0].rate_per_s, rates[-1].rate_per_s] == [1.0, 0.5]
    assert rates[0].eta_s == pytest.approx(40.0)
