"""Rows that were refused for good, and what tells that it was for themselves: that others which arrived meanwhile were not.

Who is refused is told so on arrival. So a refusal is the row's own where attempts for the same path and model that began
shortly before and shortly after were answered; and one that comes and goes says little of any row.
"""

import collections

from batchrun.errors import FATAL_KINDS, EndpointError, Kind
from batchrun.pace.spells import IN_A_SPELL, Spell, Spells
from batchrun.records import Request

Key = tuple[int, str, int]
_Fault = tuple[Kind, int | None]
_TWICE = 2
_THRICE = 3
_UNAUTHORIZED = 401


class Refusals:
    """What is known of them in a run. A spent account is nobody's own."""

    def __init__(self) -> None:
        self._accepted: collections.defaultdict[tuple[str, str], Spells] = collections.defaultdict(Spells)
        self._refused: dict[Key, list[tuple[float, _Fault]]] = {}
        self._passing: set[_Fault] = set()
        self._lasting: set[_Fault] = set()

    def refused(self, request: Request, error: EndpointError, began: float) -> None:
        """An attempt that began then was refused."""
        if error.kind in FATAL_KINDS and error.kind is not Kind.CREDIT:
            self._refused.setdefault(request.key, []).append((began, (error.kind, error.status)))

    def answered(self, request: Request, began: float, now: float) -> None:
        """An attempt that began then is answered now."""
        self._accepted[request.path, request.model].add(began, now)
        if self._refused:
            self._passing.update(fault for _began, fault in self._refused.pop(request.key, ()))

    def are_own(self, request: Request) -> bool:
        """Whether a request was refused again and again, once at least while others were accepted."""
        faults = self._refused.get(request.key, ())
        if len(faults) < _TWICE:
            return False
        accepted = self._accepted[request.path, request.model]
        return any(accepted.proof(began, began, _never) == IN_A_SPELL for began, _fault in faults)

    def are_not_the_models(self, request: Request) -> bool:
        """Whether others of the same path and model were accepted all the same: with one of a request's refusals, or between
        two of them.
        """
        faults = self._refused.get(request.key, [])
        if len(faults) < _TWICE:
            return False
        if self.are_own(request):
            return True
        return self._accepted[request.path, request.model].has_between(faults[0][0], faults[-1][0])

    def may_pass(self, request: Request, error: EndpointError) -> bool:
        """Whether a row that met such a refusal may be answered later: another one was, or it is the key that is refused, which
        all rows share, or nobody was refused so often enough yet. Then it is worth a few attempts more.
        """
        if error.kind is Kind.CREDIT or not self._accepted.get((request.path, request.model)):
            return False
        fault = (error.kind, error.status)
        if error.status == _UNAUTHORIZED or fault in self._passing:
            return True
        return fault not in self._lasting and len(self._refused.get(request.key, ())) < _THRICE

    def forget(self, key: Key) -> None:
        """A request has ended."""
        faults = self._refused.pop(key, None) if self._refused else None
        if faults is not None and len(faults) >= _THRICE:
            self._lasting.add(faults[-1][1])


def _never(_before: Spell, _after: Spell) -> bool:
    return False
