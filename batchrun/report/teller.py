"""What the events of a run are worth telling: a dated record for what a person may ask about later, none for each request.

The one place that says what a record is called and what is in it: for the log, and for programs that follow a run.
"""

import datetime
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from batchrun.events import (
    Absent,
    Began,
    Done,
    Draining,
    Dropped,
    Ended,
    Event,
    Held,
    Learnt,
    Narrowed,
    Paused,
    Released,
    Resumed,
    Retried,
    Steered,
    Waiting,
)

_RETRIES_EVERY_S = 60.0


class Teller:
    """A listener; `tell` gets each record, with `at` (RFC 3339, this machine's zone) and `event`."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], now: Callable[[], float] = time.time) -> None:
        self._tell = tell
        self._now = now
        self._retries: Counter[str] = Counter()
        self._since = 0.0
        self._failed: set[str] = set()

    def hear(self, event: Event) -> None:
        """Tell what one event is worth."""
        if self._retries and self._now() - self._since >= _RETRIES_EVERY_S:
            self._tell_retries()
        match event:
            case Done():
                if event.result.error_kind is not None and event.asked:
                    self._first_failure(event)
            case Retried():
                if not self._retries:
                    self._since = self._now()
                self._retries[str(event.error.kind)] += 1
            case Began():
                how = "resumed" if event.resumed else "started"
                self.say(how, requests=event.requests, **({"broke_off": True} if event.broke_off else {}))
            case Paused():
                self.say(
                    "paused",
                    kind=str(event.error.kind),
                    message=event.error.message,
                    patience_s=round(event.patience_s, 1),
                )
            case Resumed():
                self.say("going on", after_s=round(event.after_s, 1), answered=event.answered)
            case Waiting():
                quota = {"quota": event.error.quota} if event.error.quota else {}
                self.say("waiting", seconds=event.seconds, message=event.error.message, probed=event.probed, **quota)
            case Learnt():
                self.say("limits learnt", model=event.model, limits=event.limits)
            case Dropped():
                self.say("limits dropped", model=event.model, units=event.units)
            case Narrowed():
                self.say("fewer at once", places=event.places, broken=event.broken)
            case Absent():
                self.say("model left", model=event.model, message=event.error.message)
            case Held():
                self.say("held")
            case Released():
                self.say("released", after_s=round(event.after_s, 1))
            case Steered():
                self.say("limits set", limits=event.limits)
            case Draining():
                self.say("draining", in_flight=event.in_flight, grace_s=event.grace_s)
            case Ended():
                self._ended(event)

    def say(self, event: str, **what: Any) -> None:
        """Tell one record of this name."""
        at = datetime.datetime.fromtimestamp(self._now()).astimezone().isoformat(timespec="milliseconds")
        self._tell({"at": at, "event": event, **what})

    def _ended(self, event: Ended) -> None:
        if self._retries:
            self._tell_retries()
        counts = {"ok": event.ok, "failed": event.failed, "exit_code": event.exit_code}
        if event.message is None:
            self.say("complete", **counts)
        else:
            self.say("stopped", message=event.message, **counts)

    def _first_failure(self, event: Done) -> None:
        result = event.result
        kind = result.error_kind or ""
        if kind in self._failed:
            return
        self._failed.add(kind)
        self.say("first failure", kind=kind, row=result.row, id=result.id, message=result.error_message or "")

    def _tell_retries(self) -> None:
        self.say("retries", kinds=dict(self._retries.most_common()), seconds=round(self._now() - self._since))
        self._retries.clear()
