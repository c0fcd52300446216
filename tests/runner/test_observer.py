"""What a run counts, passes on, and tells others."""

from batchrun.errors import EndpointError, Kind
from batchrun.runner.observer import Counting, Silent


class Seen(Silent):
    def __init__(self) -> None:
        self.events: list[object] = []

    def pause(self, error: EndpointError, patience_s: float) -> None:
        self.events.append((error.message, patience_s))

    def resume(self, after_s: float, answered: bool) -> None:
        self.events.append((after_s, answered))


def test_a_pause_is_told_to_others_until_it_ends() -> None:
    """Since when the run waits and why, in words for `status`; nothing once it goes on. The observer hears of both."""
    said: list[str] = []
    seen = Seen()
    counting = Counting(said.append)
    counting.tell(seen)
    counting.pause(EndpointError(Kind.SERVER, "HTTP 502: Bad Gateway"), 7190.0)
    counting.resume(61.5, True)
    assert said[0].startswith("paused since 20")
    assert said[0].endswith(", probing the endpoint: HTTP 502: Bad Gateway")
    assert said[1:] == [""]
    assert seen.events == [("HTTP 502: Bad Gateway", 7190.0), (61.5, True)]
