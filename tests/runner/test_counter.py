"""What a run counts, passes on, and tells others."""

from batchrun.errors import EndpointError, Kind
from batchrun.events import Done, Event, Paused, Resumed, Skipped, Waiting
from batchrun.records import Result
from batchrun.runner.counter import Counter


def test_a_pause_is_told_to_others_until_it_ends() -> None:
    """Since when the run waits and why, in words for `status`; nothing once it goes on. Every listener hears of both."""
    said: list[str] = []
    heard: list[Event] = []
    also: list[Event] = []
    counter = Counter(said.append, [heard.append, also.append])
    events = [Paused(EndpointError(Kind.SERVER, "HTTP 502: Bad Gateway"), 7190.0), Resumed(61.5)]
    for event in events:
        counter.hear(event)
    assert said[0].startswith("paused since 20")
    assert said[0].endswith(", probing the endpoint: HTTP 502: Bad Gateway")
    assert said[1:] == [""]
    assert heard == also == events


def test_what_was_there_before_is_not_asked() -> None:
    """`asked` counts this call's results, `ok` all that are: of sealed shards, of journals and of this call."""
    counter = Counter(lambda _text: None, [])
    ok = Result(0, "0", "default", 0, "h", "ok")
    failed = Result(1, "1", "default", 0, "h", "failed")
    for event in (Skipped(10), Done(ok, stored=True), Done(ok), Done(failed)):
        counter.hear(event)
    assert (counter.asked, counter.ok) == (2, 12)


def test_a_spent_quota_is_kept_for_status_until_it_is_renewed() -> None:
    """Until when a run waits stands where `status` reads it; a short wait of everybody does not."""
    said: list[str] = []
    counter = Counter(said.append, [])
    counter.hear(Waiting(30.0, EndpointError(Kind.RATE_LIMITED, "slow")))
    assert said == []
    counter.hear(Waiting(86_400.0, EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent"), probed=True))
    counter.hear(Waiting(None, EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent"), probed=True))
    counter.hear(Resumed(61.5))
    known, unknown, end = said
    assert known.startswith("waiting until 2")
    assert known.endswith("probing the endpoint now and then: HTTP 429: spent")
    assert unknown == "waiting until its quota is renewed, probing the endpoint now and then: HTTP 429: spent"
    assert end == ""
