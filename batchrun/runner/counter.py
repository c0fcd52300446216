"""What this call counts of a run, and what others may read of it while it runs. Passes every event on; decides nothing."""

import time
from collections.abc import Callable

from batchrun.events import Done, Event, Hear, Held, Paused, Released, Resumed, Skipped, Waiting
from batchrun.report.status import paused

_ENDPOINT, _PERSON = "endpoint", "person"


class Counter:
    """Counts what this call `asked`, and what is `ok`. `say` keeps what the run waits for where others can read it, an empty
    text when it waits no more.
    """

    def __init__(self, say: Callable[[str], None], listeners: list[Hear]) -> None:
        self.asked = self.ok = 0
        self._say = say
        self._listeners = listeners
        self._pauses: dict[str, str] = {}

    def hear(self, event: Event) -> None:
        """Count one event and pass it on."""
        match event:
            case Done():
                self.asked += not event.stored
                self.ok += event.result.status == "ok"
            case Skipped():
                self.ok += event.requests
            case Paused():
                self._tell(_ENDPOINT, paused(f"probing the endpoint: {event.error.message}"))
            case Waiting(probed=True):
                until = "its quota is renewed"
                if event.seconds is not None:
                    until = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time.time() + event.seconds))
                self._tell(
                    _ENDPOINT, f"waiting until {until}, probing the endpoint now and then: {event.error.message}"
                )
            case Resumed():
                self._tell(_ENDPOINT, "")
            case Held():
                self._tell(_PERSON, paused("by batchrun pause; batchrun resume lets it go on"))
            case Released():
                self._tell(_PERSON, "")
        for hear in self._listeners:
            hear(event)

    def _tell(self, who: str, what: str) -> None:
        """Say what the run waits for on somebody's account, or, without a text, that it does no more; it may be two at a time."""
        self._pauses.pop(who, None)
        if what:
            self._pauses[who] = what
        self._say(next(reversed(self._pauses.values()), ""))
