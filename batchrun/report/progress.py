"""What a person sees while a run goes on: a tqdm bar in a terminal, a log line every few seconds elsewhere.

The only owner of tqdm. Everything goes to stderr; nothing here decides anything.
"""

import os
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from batchrun.clock import moment
from batchrun.events import (
    Done,
    Draining,
    Dropped,
    Event,
    Held,
    Kept,
    Learnt,
    Narrowed,
    Paused,
    Released,
    Resumed,
    Retried,
    Steered,
    Waiting,
)
from batchrun.money import dollars
from batchrun.report.standing import Standing

_LOG_EVERY_S = 5.0
_LOG_A_PAUSE_EVERY_S = 60.0


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar that shows the run's pace, which rows that were done before are no part of."""

    standing: Standing | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        rate = None if self.standing is None else self.standing.rate_per_s
        return {**super().format_dict, "rate": rate or 0.0}


class Progress:
    """A listener to a run. `mode` is bar, log or none."""

    def __init__(self, mode: str, total: int, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._mode = mode
        self._standing = Standing(total)
        self._logged = time.monotonic()
        self._retrying = ""
        self._bar = (
            _Bar(total=total, unit="req", file=self._out, mininterval=0.2, **_size(self._out))
            if mode == "bar"
            else None
        )
        if self._bar is not None:
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
            case Paused():
                long = f" for up to {clock(event.patience_s)}" if event.patience_s > 0 else ""
                self.say(f"{_time()} paused, probing the endpoint{long}: {event.error.message}")
            case Resumed():
                self._resumed(event)
            case Waiting():
                self._waiting(event)
            case Learnt():
                self.say(f"the endpoint allows {stated(event.limits)} for {event.model}: that is kept")
            case Dropped():
                units = " and ".join(unit.replace("_", " ") for unit in event.units)
                self.say(
                    f"{_time()} the endpoint's counter of {units} for {event.model} stands still while it answers: "
                    "its limit is no longer kept"
                )
            case Narrowed():
                more = "breaks off what it answers when more come" if event.broken else "refuses more"
                self.say(
                    f"{_time()} the endpoint takes about {event.places} at once and {more}: that is kept; "
                    f"next time use --concurrency {event.places}"
                )
            case Held():
                self.say(f"{_time()} paused by batchrun pause; batchrun resume lets it go on")
            case Released():
                self.say(f"{_time()} going on, by batchrun resume, after {clock(event.after_s)}")
            case Steered():
                limits = ", ".join(f"{name} {value:g}" for name, value in event.limits.items())
                self.say(f"{_time()} set by batchrun set: {limits}")
            case Draining():
                wait = f"waiting up to {event.grace_s:g} s for {event.in_flight} requests in flight"
                self.say(f"stopping: {wait} (Ctrl-C again to end at once)")

    def _waiting(self, event: Waiting) -> None:
        if event.seconds is not None:
            until = moment(time.time(), event.seconds)
            said = f"the endpoint asks to wait {clock(event.seconds)}, until {until}"
            more = ", with one probe now and then" if event.probed else ""
        else:
            said = f"the quota of a {event.error.quota} is spent" if event.error.quota else "a quota is spent"
            more = "; the endpoint does not say when it is renewed, so one probe is sent now and then"
        self.say(f"{_time()} {said}{more}: {event.error.message}")

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

    def _resumed(self, event: Resumed) -> None:
        back = "the endpoint answers again, after" if event.answered else "no answer to the last rows for"
        end = "" if event.answered else ": they are asked to their end"
        self.say(f"{_time()} {back} {clock(event.after_s)}{end}")

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

    def _show(self, bar: "tqdm[Any]") -> None:
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


def printable(text: str) -> str:
    """Text from an endpoint without what could steer a terminal: C0 and C1 controls, bidi overrides."""
    return "".join(
        char if char == "\n" or (char.isprintable() or char == " ") else f"\\x{ord(char):02x}" for char in text
    )


def _size(out: TextIO) -> dict[str, Any]:
    """The bar follows the terminal's size. In one that doesn't know its own (0 × 0, as CI makes them) tqdm would draw
    nothing.
    """
    try:
        size = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):  # no terminal after all
        return {"dynamic_ncols": True}
    if size.lines and size.columns:
        return {"dynamic_ncols": True}
    return {"ncols": size.columns or 80, "nrows": size.lines or 24}


def _time() -> str:
    return time.strftime("%H:%M:%S")


def stated(limits: dict[str, float]) -> str:
    """Limits as people read them: `500 requests and 200,000 tokens a minute`."""
    parts = [f"{limit:,.10g} {unit.replace('_', ' ')}" for unit, limit in limits.items()]
    return " and ".join(parts) + " a minute"


def _short(count: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.1f}{unit}"
    return str(count)


def clock(seconds: float) -> str:
    """Seconds as people read them: `1:02:03`, `4:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
