"""Where a run stands, as its events tell it: what is done, what it has cost, how fast it goes, what it waits for.

The one place that measures the pace and the time left. The bar, the log lines and, through what a run lets others read of
it (`Live`), `status` show these numbers. Decides nothing and prints nothing.
"""

import collections
import datetime
import time
from collections.abc import Callable

import msgspec

from batchrun.events import Began, Done, Event, Held, Kept, Paused, Released, Resumed, Retried, Waiting
from batchrun.moments import moment

_OVER_S = 60.0
"""The pace is that of the last minute."""
_FEW = 10
_LONGEST_S = 600.0
"""Where fewer results than `_FEW` came in it, it is measured over a longer time, up to this."""
_SOON_S = 5.0
"""And where fewer came so soon, there is none: the first answers come when those behind them are on the way already."""
_ENDPOINT, _PERSON = "endpoint", "person"


class Pace:
    """How fast results come of late. Seconds are any clock's that only goes forward."""

    def __init__(self, now: float) -> None:
        self.restart(now)

    def restart(self, now: float) -> None:
        """Measure from now on: what came before says nothing of what comes."""
        self._since = now
        self._counted: collections.deque[list[float]] = collections.deque()

    def count(self, now: float) -> None:
        """One more result has come."""
        counted = self._counted
        if counted and now - counted[-1][0] < 1.0:
            counted[-1][1] += 1
            return
        counted.append([now, 1])
        while counted[0][0] < now - _LONGEST_S:
            counted.popleft()

    def measured(self, now: float) -> tuple[float, float] | None:
        """(results a second, over how many seconds that is measured); None where that is too early to say."""
        count = 0.0
        over_s = min(now - self._since, _OVER_S)
        for began, results in reversed(self._counted):
            age_s = now - began
            if age_s > over_s:
                if count >= _FEW:
                    break
                over_s = age_s
            count += results
        enough = count >= _FEW or (count > 0 and over_s >= _SOON_S)
        return (count / over_s, over_s) if enough and over_s > 0 else None


class Wait(msgspec.Struct, frozen=True):
    """What a run waits for: `since` and, where that is known, `until` when, in seconds since the epoch, and why. `quota` says
    that it is one that is spent.
    """

    since: float
    why: str
    until: float | None = None
    quota: bool = False

    @property
    def short(self) -> str:
        """In a few words, for a bar."""
        if not self.quota:
            return "paused"
        return "paused, quota spent" if self.until is None else f"paused until {moment(self.since, self._left_s)}"

    @property
    def long(self) -> str:
        """In a line, with all that is known."""
        end = f" until {_local(self.until)}" if self.until is not None else ""
        return f"paused since {_local(self.since)}{end}, {self.why}"

    @property
    def _left_s(self) -> float:
        return 0.0 if self.until is None else self.until - self.since


class Live(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run lets others read of itself while it goes on: its pace, the time left and what it waits for."""

    rate_per_s: float | None = None
    over_s: float | None = None
    eta_s: float | None = None
    wait: Wait | None = None

    def encoded(self) -> str:
        return msgspec.json.encode(self).decode()


def read_live(text: str) -> Live:
    """What `Live.encoded` wrote; an empty one of anything else."""
    try:
        return msgspec.json.decode(text, type=Live)
    except msgspec.DecodeError:
        return Live()


class Standing:
    """A listener that counts. `total` are the run's requests; `done`, `failed`, `tokens`, `spent` (pico-dollars) and `unpriced`
    (results with tokens and no known price) are the run's, with what the ledger held before this call; `asked` and `retries`
    are this call's. `now` is the clock that the pace is measured by, `epoch` that of dates.
    """

    def __init__(
        self, total: int = 0, now: Callable[[], float] | None = None, epoch: Callable[[], float] | None = None
    ) -> None:
        self.total = total
        self.done = self.failed = self.tokens = self.spent = self.unpriced = self.asked = self.retries = 0
        self._now = now or time.monotonic
        self._epoch = epoch or time.time
        self._pace = Pace(self._now())
        self._waits: dict[str, Wait] = {}

    @property
    def wait(self) -> Wait | None:
        """What the run waits for; of two things the later one."""
        return next(reversed(self._waits.values()), None)

    @property
    def rate_per_s(self) -> float | None:
        """Results a second of this call, of late; None while none has come, and while the run waits."""
        return self.live().rate_per_s

    @property
    def eta_s(self) -> float | None:
        """About how long what is left will take; None where that can't be told."""
        return self.live().eta_s

    def live(self) -> Live:
        """What others may read."""
        wait = self.wait
        measured = self._pace.measured(self._now()) if wait is None else None
        if measured is None:
            return Live(wait=wait)
        rate, over_s = measured
        left = self.total - self.done
        return Live(round(rate, 4), round(over_s, 1), round(left / rate, 1) if left > 0 else None, wait)

    def hear(self, event: Event) -> None:
        """Count one event."""
        match event:
            case Done():
                self._take(event)
            case Retried():
                self.retries += 1
            case Began():
                self.total = event.requests
                self._pace.restart(self._now())
            case Kept():
                self.done += event.requests
                self.failed += event.failed
                self.tokens += event.tokens
                self.spent += event.cost
                self.unpriced += event.unpriced
            case Paused():
                self._pause(_ENDPOINT, f"probing the endpoint: {event.error.message}")
            case Waiting(probed=True):
                now = self._epoch()
                until = None if event.seconds is None else now + event.seconds
                when = "" if until is not None else "the endpoint does not say until when, "
                why = f"{when}probing the endpoint now and then: {event.error.message}"
                before = self._waits.get(_ENDPOINT)
                since = before.since if before is not None and before.quota else now
                self._waits.pop(_ENDPOINT, None)
                self._waits[_ENDPOINT] = Wait(since, why, until, quota=True)
            case Resumed():
                self._go_on(_ENDPOINT)
            case Held():
                self._pause(_PERSON, "by batchrun pause; batchrun resume lets it go on")
            case Released():
                self._go_on(_PERSON)

    def _take(self, event: Done) -> None:
        result = event.result
        self.done += 1
        self.failed += result.status != "ok"
        if not event.asked:
            return
        self.asked += 1
        self.tokens += result.total_tokens or 0
        if result.cost is not None:
            self.spent += result.cost
        elif result.total_tokens:
            self.unpriced += 1
        self._pace.count(self._now())

    def _pause(self, who: str, why: str) -> None:
        self._waits.pop(who, None)
        self._waits[who] = Wait(self._epoch(), why)

    def _go_on(self, who: str) -> None:
        self._waits.pop(who, None)
        self._pace.restart(self._now())


def _local(epoch: float) -> str:
    return datetime.datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
