"""What a person sees while a run goes on: a tqdm bar in a terminal, a log line every few seconds elsewhere.

The only owner of tqdm. Everything goes to stderr; nothing here decides anything.
"""

import collections
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
    Learnt,
    Narrowed,
    Paused,
    Released,
    Resumed,
    Retried,
    Skipped,
    Steered,
    Waiting,
)
from batchrun.money import dollars

_LOG_EVERY_S = 5.0
_LOG_A_PAUSE_EVERY_S = 60.0
_PAUSED = "paused"
_WAITING = "waiting for the quota"
_RATE_OVER_S = 30.0


class Progress:
    """A listener to a run. `mode` is bar, log or none."""

    def __init__(self, mode: str, total: int, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._mode = mode
        self._total = total
        self._started = time.monotonic()
        self._logged = self._started
        self._marks: collections.deque[tuple[float, int]] = collections.deque([(self._started, 0)])
        self.done = self.failed = self.stored = self.asked = self.retries = self.tokens = 0
        self.spent = self.unpriced = 0
        self._note = ""
        self._bar = (
            tqdm(total=total, unit="req", file=self._out, smoothing=0.1, mininterval=0.2, **_size(self._out))
            if mode == "bar"
            else None
        )

    def hear(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Done():
                self._done(event)
            case Retried():
                self._retried(event)
            case Skipped():
                self._skipped(event.requests)
            case Paused():
                self._note = _PAUSED
                self._redraw()
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
                self._note = _PAUSED
                self._redraw()
                self.say(f"{_time()} paused by batchrun pause; batchrun resume lets it go on")
            case Released():
                self._note = ""
                self._marks.clear()
                self._mark(time.monotonic())
                self.say(f"{_time()} going on, by batchrun resume, after {clock(event.after_s)}")
            case Steered():
                limits = ", ".join(f"{name} {value:g}" for name, value in event.limits.items())
                self.say(f"{_time()} set by batchrun set: {limits}")
            case Draining():
                wait = f"waiting up to {event.grace_s:g} s for {event.in_flight} requests in flight"
                self.say(f"stopping: {wait} (Ctrl-C again to end at once)")

    def _waiting(self, event: Waiting) -> None:
        if event.probed:
            self._note = _WAITING
            self._redraw()
        said = "a quota is spent, and nobody says until when"
        if event.seconds is not None:
            until = moment(time.time(), event.seconds)
            said = f"the endpoint asks to wait {clock(event.seconds)}, until {until}"
        more = ", with one probe now and then" if event.probed else ""
        self.say(f"{_time()} {said}{more}: {event.error.message}")

    def _skipped(self, requests: int) -> None:
        self.done += requests
        self.stored += requests
        if self._bar is not None and requests:
            self._bar.initial = requests
            self._bar.update(requests)
            self._bar.unpause()

    def _done(self, event: Done) -> None:
        result = event.result
        self.done += 1
        self.failed += result.status != "ok"
        if event.stored:
            self.stored += 1
        else:
            self.asked += 1
            self.tokens += result.total_tokens or 0
            self.spent += result.cost or 0
            self.unpriced += result.cost is None and bool(result.total_tokens)
            self._note = ""
        if self._bar is not None:
            self._show(self._bar)
            self._bar.update()
        elif self._mode == "log":
            self._log()

    def _retried(self, event: Retried) -> None:
        self.retries += 1
        note = f"retrying: {event.error.kind}"
        if self._note not in (_PAUSED, _WAITING, note):
            self._note = note
            self._redraw()
        if self._mode == "log":
            self._log()

    def _resumed(self, event: Resumed) -> None:
        self._note = ""
        self._marks.clear()  # the pace of before and of the pause says nothing of what comes
        self._logged = time.monotonic()
        self._mark(self._logged)
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

    def _numbers(self) -> str:
        parts = [f"{_short(self.tokens)} tok", self._money(), f"{self.failed} failed"]
        if self.retries:
            parts.append(f"{self.retries} retries")
        return ", ".join(parts)

    def _state(self) -> str:
        return f"{self._numbers()}, {self._note}" if self._note else self._numbers()

    def _money(self) -> str:
        """What was spent, as far as that is known: a bar has no room for more."""
        if not self.unpriced:
            return dollars(self.spent)
        return f"≥ {dollars(self.spent)}" if self.spent else "cost unknown"

    def _log(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._logged < (_LOG_A_PAUSE_EVERY_S if self._note == _PAUSED else _LOG_EVERY_S):
            return
        self._logged = now
        self._mark(now)
        since, before = self._marks[0]
        rate = (self.asked - before) / max(now - since, 1e-9)
        left = self._total - self.done
        eta = f", {clock(left / rate)} left" if rate and left else ""
        share = f"{100 * self.done / self._total:.1f} %" if self._total else "100 %"
        text = f"{_time()} {self.done}/{self._total} ({share}), {rate:.1f} req/s{eta}, {self._state()}"
        print(text, file=self._out, flush=True)

    def _mark(self, now: float) -> None:
        self._marks.append((now, self.asked))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_OVER_S:
            self._marks.popleft()


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
