"""What this call counts of a run, and what others may read of it while it runs. Passes every event on; decides nothing."""

import time
from collections.abc import Callable

from batchrun.events import Done, Event, Hear, Paused, Resumed, Skipped, Waiting


class Counter:
    """Counts what this call `asked`, and what is `ok`. `say` keeps what the run waits for where others can read it, an empty
    text when it waits no more.
    """

    def __init__(self, say: Callable[[str], None], listeners: list[Hear]) -> None:
        self.asked = self.ok = 0
        self._say = say
        self._listeners = listeners

    def hear(self, event: Event) -> None:
        """Count one event and pass it on."""
        match event:
            case Done():
                self.asked += not event.stored
                self.ok += event.result.status == "ok"
            case Skipped():
                self.ok += event.requests
            case Paused():
                since = time.strftime("%Y-%m-%d %H:%M:%S %z")
                self._say(f"paused since {since}, probing the endpoint: {event.error.message}")
            case Waiting(probed=True):
                until = "its quota is renewed"
                if event.seconds is not None:
                    until = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time.time() + event.seconds))
                self._say(f"waiting until {until}, probing the endpoint now and then: {event.error.message}")
            case Resumed():
                self._say("")
        for hear in self._listeners:
            hear(event)
