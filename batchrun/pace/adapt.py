"""How many may be in flight at an endpoint that takes fewer than it is given: decided from what becomes of the attempts.

Pure: `decide` and `grown` make the next state from the last one. An endpoint that takes N at once refuses what comes on top,
so the refusals of one burst leave exactly N in flight; one that counts by the second lets through what it can as well.
From there it is tried, with growing pauses, whether it takes one more. An endpoint that breaks off what it was answering
when the next request comes says nothing: it is told by most of the attempts that break, with many in flight.
"""

from enum import StrEnum

import msgspec

_FIRST_HOLD_S = 1.0
_LONGEST_HOLD_S = 60.0
_LONGEST_BROKEN_HOLD_S = 900.0
"""What breaks off was likely paid for: it is tried less often."""
_LEAST_BREAKS = 3
_MOST_BREAKS = 8
_SHARE = 2
"""So many break for one that is answered."""
_ROUND_S = 60.0
"""Breaks that lie further apart have nothing to do with each other."""


class End(StrEnum):
    """What became of an attempt, as far as it says anything of how many the endpoint takes at once."""

    ANSWERED = "answered"
    REFUSED = "refused"
    BROKEN = "broken"
    UNREACHED = "unreached"


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One attempt that ended at `now` and began at `began`, in the clock's seconds, as one of `beside` in flight, itself
    counted; `left` are in flight after it.
    """

    end: End
    began: float
    now: float
    beside: int
    left: int


class Fit(msgspec.Struct, frozen=True, gc=False):
    """How many may be in flight: `places` of the `most` that the user allows, `since` the clock's second.

    `known` were taken before the last step up; after `hold_s` more without a refusal the next `step` is taken. `kept` of
    those that were in flight at the last change were answered since. `breaks` and `wholes` are attempts that broke off and
    that were answered, of those begun after the first break, at `broke_at`. `broken` says that breaks are why there are
    few; until `deaf_until` they are taken for something else, since one alone broke as well. `spent` says that a quota was.
    """

    most: int
    places: int
    known: int = 0
    since: float = 0.0
    hold_s: float = _FIRST_HOLD_S
    step: int = 1
    kept: int = 0
    broken: bool = False
    spent: bool = False
    broke_at: float | None = None
    breaks: int = 0
    wholes: int = 0
    alone: int = 0
    deaf_until: float = float("-inf")

    @property
    def narrowed(self) -> bool:
        return self.places < self.most

    @property
    def watches(self) -> bool:
        """Whether answers are to be told too, not only what fails."""
        return self.places < self.most or self.broke_at is not None


def decide(seen: Seen, fit: Fit) -> Fit:
    """The state after one attempt has ended."""
    if seen.end is End.REFUSED:
        return _refused(seen, fit)
    if seen.end is End.BROKEN:
        return _broken(seen, fit)
    if seen.end is End.UNREACHED:  # it was down: that is why connections broke
        return msgspec.structs.replace(fit, broke_at=None, breaks=0, wholes=0)
    kept = fit.kept + (seen.began < fit.since)
    wholes = fit.wholes + (fit.broke_at is not None and seen.began >= fit.broke_at)
    return msgspec.structs.replace(fit, kept=kept, wholes=wholes, alone=0)


def grown(now: float, in_flight: int, fit: Fit) -> Fit:
    """The state where nothing was refused for long enough, and all that may be in flight is."""
    if not fit.narrowed or in_flight < fit.places or now - fit.since < fit.hold_s:
        return fit
    places = min(fit.places + fit.step, fit.most)
    if places == fit.most:
        return Fit(fit.most, fit.most, deaf_until=fit.deaf_until)
    hold_s = max(fit.hold_s / 2, _FIRST_HOLD_S) if fit.places > fit.known else fit.hold_s
    step = 2 * fit.step if fit.places > fit.known else 1
    return msgspec.structs.replace(
        fit, places=places, known=fit.places, since=now, hold_s=hold_s, step=min(step, fit.places), kept=0
    )


def _refused(seen: Seen, fit: Fit) -> Fit:
    if seen.began < fit.since:
        # of one burst: those that it let through are still in flight, or were answered since
        taken = max(seen.left + fit.kept, 1)
        return msgspec.structs.replace(fit, places=min(fit.places, taken), known=min(fit.known, taken))
    return _shrunk(seen, fit, max(min(fit.places - 1, seen.left), fit.places // 2, 1), _LONGEST_HOLD_S)


def _shrunk(seen: Seen, fit: Fit, places: int, longest_s: float) -> Fit:
    """Fewer from now on. Where a step up had failed, the next one is taken after twice the time."""
    failed = 0 < fit.known < fit.places
    if failed:
        places = min(places, fit.known)
    hold_s = min(2 * fit.hold_s, longest_s) if failed else fit.hold_s
    return msgspec.structs.replace(
        fit,
        places=places,
        known=places,
        since=seen.now,
        hold_s=hold_s,
        step=1,
        kept=0,
        broke_at=None,
        breaks=0,
        wholes=0,
    )


def _broken(seen: Seen, fit: Fit) -> Fit:
    if seen.now < fit.deaf_until or seen.began < fit.since:
        return fit
    if seen.beside < 2:
        return _broken_alone(seen, fit) if fit.broken else fit
    if fit.broken and fit.known < fit.places:
        return _shrunk(seen, fit, fit.known, _LONGEST_BROKEN_HOLD_S)
    if fit.broke_at is None or seen.now - fit.broke_at > _ROUND_S:
        return msgspec.structs.replace(fit, broke_at=seen.now, breaks=0, wholes=0)
    if seen.began < fit.broke_at:
        return fit  # one event may break all that is in flight: what is sent after it tells more
    breaks = fit.breaks + 1
    if breaks < min(max(fit.places, _LEAST_BREAKS), _MOST_BREAKS) or breaks < _SHARE * fit.wholes:
        return msgspec.structs.replace(fit, breaks=breaks)
    fit = msgspec.structs.replace(fit, broken=True, alone=0)
    return _shrunk(seen, fit, 1, _LONGEST_BROKEN_HOLD_S)


def _broken_alone(seen: Seen, fit: Fit) -> Fit:
    """One alone breaks too: as soon as that is no chance, it is not for the number in flight."""
    if fit.alone + 1 < _LEAST_BREAKS:
        return msgspec.structs.replace(fit, alone=fit.alone + 1)
    return Fit(fit.most, fit.most, deaf_until=seen.now + _ROUND_S)
