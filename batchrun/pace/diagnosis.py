"""Which fault, or which run of them, is everybody's: what closes the gate, and for how long it may be probed.

Counts and judges; it never waits and never asks.
"""

import re
from collections.abc import Collection

import msgspec

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.pace.advice import is_page
from batchrun.pace.health import Health, Key, is_silent
from batchrun.pace.policy import FREE_KINDS, SILENT_KINDS, Policy, clamped
from batchrun.records import Request

_NUMBERS_AND_NAMES = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b[0-9a-f]{8,}\b|\b\w*\d\w*\b", re.IGNORECASE)
_UNAUTHORIZED = 401
_FORBIDDEN = 403


class Closing(msgspec.Struct, frozen=True):
    """The gate is to close. It is probed for `patience_s` and so many `probes` at most, None for any number; `told_s` is
    what a person is told of that.
    """

    patience_s: float
    told_s: float
    probes: int | None = None


def folded(error: EndpointError) -> str:
    """What is the same in the words of two refusals: without numbers, ids and what stands in quotes."""
    return _NUMBERS_AND_NAMES.sub("#", f"{error.kind} {error.param or ''} {error.message}")


def group_of(request: Request) -> tuple[str, str]:
    """What a 404 may be about: the path and the model that were asked."""
    return (request.path, request.model)


def may_be_absence(error: EndpointError) -> bool:
    """Whether a fault may say that a model is not there, or that one may not use it."""
    return (
        error.of_model
        or error.kind is Kind.NOT_FOUND
        or (error.kind is Kind.CREDENTIALS and error.status == _FORBIDDEN)
    )


class Diagnosis:
    """Told of every fault that the gate sees while it is open. `named` are the models that the job and its variants ask for."""

    def __init__(self, clock: Clock, health: Health, policy: Policy, named: Collection[str] = ()) -> None:
        self._named = frozenset(named)
        self._clock = clock
        self._health = health
        self._policy = policy
        self._connect_faults = 0
        self._connect_since = 0.0
        self._connect_answers = 0
        self._refused: dict[str, set[Key]] = {}
        self._timed_out: set[Key] = set()
        # rows refused for good that are asked again, and how many had been answered then
        self._refused_at: dict[Key, int] = {}
        self._acquitted: dict[tuple[Kind, int | None, tuple[str, str]], int] = {}

    def closes(self, request: Request, error: EndpointError) -> Closing | None:
        """Count a fault; what to do where it is everybody's, None where it may be the row's own."""
        health, policy = self._health, self._policy
        if error.kind is Kind.CONNECT:
            return self._connect()
        self._connect_faults = 0
        if error.kind in FATAL_KINDS:
            own = (
                self.is_missing(request, error) or self._is_acquitted(request, error) or self.is_proven(request, error)
            )
            self.add(request, error)
            return None if own else self._waited_for(error)
        if error.kind in ROW_KINDS and error.kind is not Kind.CONTENT_FILTER:
            return Closing(0.0, 0.0) if self._is_refused(request, error) else None
        if error.kind is Kind.RATE_LIMITED:
            stuck = health.silent_s >= policy.silent_s and error.retry_after_s is None and error.quota is None
            return Closing(0.0, 0.0) if stuck else None
        if not is_silent(error) or health.condemned:
            return None
        if not health.answers:
            return self._never_answered(request, error)
        if health.silent_s >= policy.silent_s:
            return Closing(0.0, 0.0)
        if health.is_silent and health.lasts:
            patience_s = health.patience_s
            return Closing(patience_s, patience_s)
        return None

    def add(self, request: Request, error: EndpointError) -> None:
        """A request was refused for good, and is asked again."""
        if error.kind in FATAL_KINDS:
            self._refused_at[request.key] = self._health.answers

    def was_refused(self, request: Request) -> bool:
        """Whether a request in progress was refused for good before."""
        return request.key in self._refused_at

    def forget(self, key: Key) -> None:
        """A request has ended."""
        if self._refused_at:
            self._refused_at.pop(key, None)

    def is_own(self, request: Request, error: EndpointError) -> bool:
        """Whether a fault that came while the gate was closed is the row's own all the same: it was refused before, and
        others were answered since.
        """
        if error.kind not in FATAL_KINDS:
            return False
        again = self.was_refused(request) and not self._comes_and_goes(request, error)
        own = (again and self._is_acquitted(request, error)) or self.is_proven(request, error)
        self.add(request, error)
        return own

    def is_common(self, cause: EndpointError, again: EndpointError) -> bool:
        """Whether a probe's fault agrees with the one that closed the gate."""
        if cause.kind in ROW_KINDS:
            return again.kind in ROW_KINDS and folded(cause) == folded(again)
        if again.kind is Kind.RATE_LIMITED:
            return cause.kind not in FATAL_KINDS  # who is asked to wait has been let in
        return again.kind in SILENT_KINDS | FATAL_KINDS

    def is_proven(self, request: Request, error: EndpointError) -> bool:
        """Whether a row refused for good was refused while others were accepted, and is again."""
        if error.kind not in FATAL_KINDS or not self._health.refusals.are_own(request):
            return False
        self.acquit(request, error)
        return True

    def acquit(self, request: Request, error: EndpointError) -> None:
        """Such a fault was one row's own; the next one is too, as long as others are answered."""
        self._acquitted[error.kind, error.status, group_of(request)] = self._health.answers
        self._explain(request, error)

    def is_missing(self, request: Request, error: EndpointError) -> bool:
        """Whether a refusal is that of a path or a model that never answered, while others have: a 404, or one of a model that
        the job names. The error then says so, where a row is to fail with it.
        """
        groups = self._health.groups
        if not groups or group_of(request) in groups:
            return False
        of_model = request.model in self._named and any(path == request.path for path, _model in groups)
        if not (error.kind is Kind.NOT_FOUND or (of_model and may_be_absence(error))):
            return False
        if not of_model:
            self._explain(request, error)
        return True

    def _is_acquitted(self, request: Request, error: EndpointError) -> bool:
        """Whether such a fault was one row's own before, and others were answered since then, or since it met this row."""
        known = (error.kind, error.status, group_of(request))
        answers = self._acquitted.get(known)
        if answers is None:
            return False
        if not self._comes_and_goes(request, error):
            answers = min(answers, self._refused_at.get(request.key, answers))
        # a model or a path that never answered is missing there: no answer in between is needed
        missing = error.kind is Kind.NOT_FOUND and group_of(request) not in self._health.groups
        if answers == self._health.answers and not missing:
            return False
        self._acquitted[known] = self._health.answers
        self._explain(request, error)
        return True

    def _comes_and_goes(self, request: Request, error: EndpointError) -> bool:
        """A key that is refused now, and good for that model and path at other times, is refused to all rows alike."""
        return error.status == _UNAUTHORIZED and group_of(request) in self._health.groups

    def _explain(self, request: Request, error: EndpointError) -> None:
        """A 404 of a part of the job names what is missing."""
        if error.kind is Kind.NOT_FOUND and "other requests are answered" not in error.message:
            error.message = (
                f"{error.message} (POST …{request.path}, model {request.model}; other requests are answered)"
            )
            error.args = (error.message,)

    def _waited_for(self, error: EndpointError) -> Closing:
        """A key or an address that was good is waited for, a spent account is not: it does not come back by itself."""
        if (
            not self._health.answers
            and error.kind is Kind.NOT_FOUND
            and error.body is not None
            and not error.body.strip()
        ):
            # nothing is said: a front end may be up before what it stands for
            return Closing(self._policy.least_connect_patience_s, self._policy.least_connect_patience_s)
        if not self._health.answers or error.kind is Kind.CREDIT:
            return Closing(0.0, 0.0)
        return self._as_long_as_it_answered(self._policy.least_patience_s)

    def _as_long_as_it_answered(self, least_s: float) -> Closing:
        patience_s = clamped(self._health.answering_s, least_s, self._policy.most_patience_s)
        return Closing(patience_s, patience_s)

    def _connect(self) -> Closing | None:
        now, health, policy = self._clock.now(), self._health, self._policy
        if health.answers != self._connect_answers:
            self._connect_faults, self._connect_answers = 0, health.answers
        if not self._connect_faults:
            self._connect_since = now
        self._connect_faults += 1
        lasting = now - self._connect_since >= policy.lasting_connect_s
        many = policy.connect_faults if health.answers else policy.outage_rows
        if self._connect_faults < (policy.lasting_connect_faults if lasting else many):
            return None
        self._connect_faults = 0
        if not health.answers:  # its address is wrong, or it was never up
            return Closing(0.0, 0.0)
        return self._as_long_as_it_answered(policy.least_connect_patience_s)

    def _is_refused(self, request: Request, error: EndpointError) -> bool:
        if self._health.answers:
            self._refused.clear()
            return False
        rows = self._refused.setdefault(folded(error), set())
        rows.add(request.key)
        return len(rows) >= self._policy.refused_rows

    def _never_answered(self, request: Request, error: EndpointError) -> Closing | None:
        """Faults that pass, of an endpoint that has answered nobody yet. A time-out may be billed: one round of them is
        enough.
        """
        health, policy = self._health, self._policy
        if error.kind is Kind.TIMEOUT:
            self._timed_out.add(request.key)
            enough = min(policy.outage_rows, max(health.asking, 1))
            if len(self._timed_out) >= enough and health.is_silent:
                return Closing(-1.0, 0.0)
            return None
        if not health.is_silent:
            return None
        if error.kind is Kind.MALFORMED or is_page(error):
            return Closing(policy.lasting_s, 0.0)
        if error.status == 503 and error.kind in FREE_KINDS:
            return Closing(policy.loading_s, policy.loading_s)
        return Closing(
            policy.never_answered_s, policy.never_answered_s, min(policy.most_unknown_probes, policy.max_attempts)
        )
