"""What a program follows a run by: the records of its log as they come, and every few seconds where the run stands."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from batchrun.events import Ended, Event
from batchrun.money import usd
from batchrun.report.standing import Standing
from batchrun.report.teller import Teller

_EVERY_S = 5.0


class Following:
    """A listener that writes JSON lines. Those called `progress` say where the run stands: `rate_per_s` and `eta_s` are null
    where that can't be told, `cost_usd` is what is known, and `unpriced` counts results whose price is not.
    """

    def __init__(self, out: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._now = now
        self._told = now()
        self._standing = Standing(now=now)
        self._teller = Teller(self._write)

    def hear(self, event: Event) -> None:
        """Write what one event is worth."""
        self._standing.hear(event)
        self._teller.hear(event)
        if self._now() - self._told >= _EVERY_S and not isinstance(event, Ended):
            self._progress()

    def note(self, message: str) -> None:
        """Write what is said to people beside the events."""
        self._teller.say("note", message=message)

    def close(self) -> None:
        """Say where it stands at the end of a call that has asked."""
        if self._standing.total:
            self._progress()

    def _progress(self) -> None:
        self._told = self._now()
        standing = self._standing
        live = standing.live()
        self._teller.say(
            "progress",
            requests=standing.total,
            done=standing.done,
            failed=standing.failed,
            retries=standing.retries,
            tokens=standing.tokens,
            cost_usd=usd(standing.spent),
            unpriced=standing.unpriced,
            rate_per_s=live.rate_per_s,
            eta_s=live.eta_s,
            waits_for=None if live.wait is None else live.wait.long,
        )

    def _write(self, told: dict[str, Any]) -> None:
        text = msgspec.json.encode({name: _clean(value) for name, value in told.items()}).decode()
        print(text, file=self._out, flush=True)


def _clean(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
