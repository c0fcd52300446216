"""What a person sees while a run goes on: a tqdm bar in a terminal, a log line every few seconds elsewhere.

Everything goes to stderr; nothing here decides anything.
"""

import datetime
import sys
import time
from typing import Any, TextIO

from batchrun.events import Done, Event, Kept, Retried
from batchrun.money import dollars
from batchrun.report.standing import Standing
from batchrun.report.teller import Teller
from batchrun.report.words import clock, printable, words

_LOG_EVERY_S = 5.0
_LOG_A_PAUSE_EVERY_S = 60.0
_SHOWN = frozenset(
    {
        "paused",
        "going on",
        "waiting",
        "limits learnt",
        "limits dropped",
        "fewer at once",
        "model left",
        "held",
        "released",
        "limits set",
        "draining",
    }
)
"""The records that stand above the bar; the others are in the log, or are told at the end."""


class Progress:
    """A listener to a run. `mode` is bar, notebook, log or none."""

    def __init__(self, mode: str, total: int, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._mode = mode
        self._standing = Standing(total)
        self._teller = Teller(self._tell)
        self._logged = time.monotonic()
        self._retrying = ""
        self._bar: Any = None
        if mode in ("bar", "notebook"):
            from batchrun.report.bar import bar  # late: only who has a bar needs tqdm, which takes a while to load

            self._bar = bar(mode, total, self._out)
            self._bar.standing = self._standing

    def hear(self, event: Event) -> None:
        """Show one event."""
        waited = self._standing.wait
        self._standing.hear(event)
        if self._standing.wait is not waited:
            self._retrying = ""
            self._logged = time.monotonic()
            self._redraw()
        match event:
            case Done():
                self._done(event)
            case Retried():
                self._retried(event)
            case Kept():
                self._kept()
        self._teller.hear(event)

    def _tell(self, record: dict[str, Any]) -> None:
        """Show a record that a person who watches wants to know of at once."""
        if record["event"] in _SHOWN:
            at = datetime.datetime.fromisoformat(record["at"])
            again = "interrupt again" if self._mode == "notebook" else "Ctrl-C again"
            more = f" ({again} to end at once)" if record["event"] == "draining" else ""
            self.say(f"{at.strftime('%H:%M:%S')} {words(record)}{more}")

    def _kept(self) -> None:
        if self._bar is not None:
            self._bar.initial = self._bar.n = self._bar.last_print_n = self._standing.done
            self._redraw()

    def _done(self, event: Done) -> None:
        if event.asked:
            self._retrying = ""
        if self._bar is not None:
            self._show(self._bar)
            self._bar.update()
        elif self._mode == "log":
            self._log()

    def _retried(self, event: Retried) -> None:
        note = f"retrying: {event.error.kind}"
        if self._retrying != note:
            self._retrying = note
            self._redraw()
        if self._mode == "log":
            self._log()

    def say(self, message: str) -> None:
        """A message above the bar, or a line of the log."""
        if self._mode == "none":
            return
        if self._bar is not None:
            self._bar.write(printable(message), file=self._out)
        else:
            print(printable(message), file=self._out, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._show(self._bar)
            self._bar.close()
        elif self._mode == "log":
            self._log(last=True)

    def _redraw(self) -> None:
        if self._bar is not None:
            self._show(self._bar)
            self._bar.refresh()

    def _show(self, bar: Any) -> None:
        """The numbers stand behind the bar; what the run waits for before it, which a narrow terminal cuts last."""
        bar.set_description_str(self._note or None, refresh=False)
        bar.set_postfix_str(self._numbers(), refresh=False)

    @property
    def _note(self) -> str:
        """What the run waits for, or what it asks again for."""
        wait = self._standing.wait
        return self._retrying if wait is None else wait.short

    def _numbers(self) -> str:
        standing = self._standing
        parts = [f"{_short(standing.tokens)} tok", self._money(), f"{standing.failed} failed"]
        if standing.retries:
            parts.append(f"{standing.retries} retries")
        return ", ".join(parts)

    def _money(self) -> str:
        """What was spent, as far as that is known: a bar has no room for more."""
        spent = self._standing.spent
        if not self._standing.unpriced:
            return dollars(spent)
        return f"≥ {dollars(spent)}" if spent else "cost unknown"

    def _log(self, *, last: bool = False) -> None:
        now, standing = time.monotonic(), self._standing
        every_s = _LOG_EVERY_S if standing.wait is None else _LOG_A_PAUSE_EVERY_S
        if not last and now - self._logged < every_s:
            return
        self._logged = now
        live = standing.live()
        share = f"{100 * standing.done / standing.total:.1f} %" if standing.total else "100 %"
        parts = [f"{_time()} {standing.done}/{standing.total} ({share})"]
        if live.rate_per_s is not None:
            parts.append(f"{live.rate_per_s:.1f} req/s")
        if live.eta_s:
            parts.append(f"{clock(live.eta_s)} left")
        print(", ".join([*parts, self._numbers(), *filter(None, [self._note])]), file=self._out, flush=True)


def _time() -> str:
    return time.strftime("%H:%M:%S")


def _short(count: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.1f}{unit}"
    return str(count)
