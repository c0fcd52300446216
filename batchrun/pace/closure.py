"""One closing of the gate, and which of those that wait is asked next."""

from collections.abc import Callable

import msgspec

from batchrun.errors import FATAL_KINDS, EndpointError
from batchrun.pace.diagnosis import group_of
from batchrun.pace.health import Key
from batchrun.pace.turns import Place
from batchrun.records import Request


class Closure(msgspec.Struct, frozen=True):
    """One closing of the gate: the fault that caused it, since when, until when it is probed and when next, in the clock's
    seconds, and how long the last wait was.

    `known` says that anybody had been answered before. `suspect` is the row that may be the only one to meet the fault,
    `doubted` its fault and `doubted_at` when it came.
    `expected` is a row far ahead that has the next turn. `scouts` were sent, of which some are `unasked`, and `probes` asked
    so far; `groups` are the paths and models of those that were refused as one is that is not there. A `trial` is of one row
    alone: it begins when nothing else is on the wire, and is told to nobody while it is short.
    """

    cause: EndpointError
    since: float
    until: float
    next_at: float
    wait_s: float
    known: bool
    suspect: Request | None = None
    doubted: EndpointError | None = None
    doubted_at: float = 0.0
    expected: Key | None = None
    scouts: frozenset[Key] = frozenset()
    unasked: frozenset[Key] = frozenset()
    probes: int = 0
    groups: frozenset[tuple[str, str]] = frozenset()
    most_probes: int | None = None
    trial: bool = False
    told: bool = True


def next_probe(
    closure: Closure, line: list[Place], was_refused: Callable[[Request], bool]
) -> tuple[Place | None, Closure]:
    """Whose turn it is, and the closure after that: a row far ahead; else one that is not the suspect, of another model or
    path where there is one; else, where rows are refused for good, one that was not yet; else who has waited longest. None
    where a row far ahead is still to come.
    """
    if closure.expected is not None:
        expected = next((place for place in line if place.request.key == closure.expected), None)
        if expected is not None:
            closure = msgspec.structs.replace(closure, expected=None)
        return expected, closure
    if closure.groups and (other := next((one for one in line if group_of(one.request) not in closure.groups), None)):
        return other, closure
    fatal = closure.cause.kind in FATAL_KINDS
    fresh = [place for place in line if fatal and not was_refused(place.request)]
    suspect = closure.suspect
    if suspect is None:
        scout = next((place for place in line if place.request.key in closure.unasked), None)
        if scout is not None:
            closure = msgspec.structs.replace(closure, unasked=closure.unasked - {scout.request.key})
        return scout or (fresh or line)[0], closure
    others = [place for place in line if place.request is not suspect]
    return (fresh or others or line)[0], closure
