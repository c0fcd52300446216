"""Models that an endpoint does not have, or not for this key, while it answers for others: their requests are left, and the
others go on.

It stands round the gate, which knows what is everybody's fault: what comes through of a refusal for good is a row's own, or
its model's. One that is asked for by the job or a variant, and never answered, is asked once more, by another row where there
is one; refused again, it is absent. One that has answered before is waited for, for a minute, and rows of its own that it
refuses in such words are told from that by the answers to others. A model that a row names itself is that row's affair.
"""

from collections.abc import Collection

import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.events import Absent, Hear
from batchrun.pace.advice import advice
from batchrun.pace.diagnosis import group_of, may_be_absence
from batchrun.pace.health import Health, Key
from batchrun.pace.policy import Policy
from batchrun.pace.turns import Place, Turns
from batchrun.records import Answer, Complete, Request
from batchrun.stop import ABSENT, Stop, Stopped, StopSign

_Group = tuple[str, str]
_LEAST_ROWS = 3
"""A refusal that does not speak of the model has to meet so many rows of it, where there are as many."""
_MOST_PROBES = 3
_NAMED = 3


class _Doubt:
    """A model that was refused. `rows` met that, `answers` had been given by all when the first one did; `least_s` is how long
    it has to last.
    """

    def __init__(self, now: float, answers: int, wait_s: float, least_s: float) -> None:
        self.since = now
        self.answers = answers
        self.wait_s = wait_s
        self.least_s = least_s
        self.probe_at = now + wait_s
        self.probes = 0
        self.rows: set[Key] = set()
        self.turns = Turns(self._next)

    def _next(self, line: list[Place]) -> Place | None:
        """One that was not refused yet comes first."""
        return next((place for place in line if place.request.key not in self.rows), line[0])


class _Left(msgspec.Struct):
    """What is left of an absent model: the fault, the variants that ask for it, and how many requests were left."""

    error: EndpointError
    variants: dict[str, None]
    requests: int = 0


class Models:
    """`named` are the models that the job and its variants ask for."""

    def __init__(
        self, clock: Clock, stop: StopSign, health: Health, hear: Hear, policy: Policy, named: Collection[str]
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._health = health
        self._hear = hear
        self._policy = policy
        self._named = frozenset(named)
        self._doubts: dict[_Group, _Doubt] = {}
        self._absent: dict[_Group, _Left] = {}
        # rows that were refused while others of their model were answered, models that have such rows, and how many of
        # a model were refused since it last answered
        self._cleared: set[Key] = set()
        self._choosy: set[_Group] = set()
        self._refusals: dict[_Group, set[Key]] = {}

    def wrap(self, inner: Complete) -> Complete:
        """`inner`, asked for models that are there. Raises Stopped for a request that is left."""

        async def complete(request: Request) -> Answer:
            if request.model not in self._named:
                return await inner(request)
            try:
                answer = await self._of_named(inner, request)
            finally:
                self._cleared.discard(request.key)
            if self._refusals:
                self._refusals.pop(group_of(request), None)
            return answer

        return complete

    async def _of_named(self, inner: Complete, request: Request) -> Answer:
        group = group_of(request)
        while True:
            if (left := self._absent.get(group)) is not None:
                left.requests += 1
                left.variants[request.variant] = None
                raise Stopped
            doubt = self._doubts.get(group)
            if request.key in self._health.scouts:  # the gate waits for it: it is held up by nothing
                self._health.scouts.discard(request.key)
            elif doubt is not None:
                if (answer := await self._in_turn(inner, request, doubt)) is not None:
                    return answer
                continue
            began = self._clock.now()
            try:
                answer = await inner(request)
            except EndpointError as error:
                if not self._is_absence(request, error):
                    raise
                self._refused(request, error)
            else:
                if (doubt := self._doubts.get(group)) is not None and began >= doubt.since:
                    self._is_there(group, doubt)
                return answer

    @property
    def stop(self) -> Stop | None:
        """Why the run is not complete though all is asked that could be; None where nothing was left."""
        if not self._absent:
            return None
        said = [_said(model, left) for (_path, model), left in self._absent.items()]
        more = [f"and {len(said) - _NAMED} more models"] if len(said) > _NAMED else []
        first = next(iter(self._absent.values())).error
        what = "correct its name, or take it out" if first.remedy is None else advice(first, None)
        count = sum(left.requests for left in self._absent.values())
        return Stop(
            ABSENT,
            f"stopped ({first.kind}): {'; '.join([*said[:_NAMED], *more])}. The others are done, and {count} requests are "
            f"left: {what}, or get access to it; the same command asks only what is left",
        )

    def _is_absence(self, request: Request, error: EndpointError) -> bool:
        """Whether a fault may be that of a model which is not there, where others on the same path have answered."""
        groups, group = self._health.groups, group_of(request)
        if not may_be_absence(error):
            return False
        if group not in groups:
            return any(path == request.path for path, _model in groups)
        if not error.of_model:
            return False
        if request.key in self._cleared or self._health.refusals.are_not_the_models(request):
            self._choosy.add(group)
            return False
        refusals = self._refusals.setdefault(group, set())
        refusals.add(request.key)
        return group not in self._choosy or len(refusals) >= self._policy.outage_rows

    def _refused(self, request: Request, error: EndpointError) -> None:
        """Count a refusal; enough of them, and the model is absent."""
        group, now = group_of(request), self._clock.now()
        doubt = self._doubts.get(group)
        if doubt is None:
            known, policy = group in self._health.groups, self._policy
            wait_s, least_s = (0.0, policy.restart_s) if known else (policy.first_probe_s, 0.0)
            doubt = self._doubts[group] = _Doubt(now, self._health.answers, wait_s, least_s)
        doubt.rows.add(request.key)
        if now < doubt.probe_at:
            return  # it was on the wire together with the first one
        doubt.probes += 1
        if doubt.least_s:
            doubt.wait_s = min(2 * doubt.wait_s or self._policy.first_probe_s, self._policy.longest_unknown_wait_s)
        doubt.probe_at = now + doubt.wait_s
        if now - doubt.since < doubt.least_s:
            return
        beside = self._health.answers > doubt.answers or not self._health.in_flight
        enough = error.of_model or error.kind is Kind.NOT_FOUND or len(doubt.rows) >= _LEAST_ROWS
        if (beside and enough) or doubt.probes >= _MOST_PROBES:
            self._absent[group] = _Left(error, {})
            self._hear(Absent(request.model, error))
            self._end(group)

    async def _in_turn(self, inner: Complete, request: Request, doubt: _Doubt) -> Answer | None:
        """Wait until it is known whether the model is there, or be the one to find out. None where it is to look again."""
        if not await doubt.turns.wait(request):
            return None
        group = group_of(request)
        try:
            while self._stop.stop is None and (wait_s := doubt.probe_at - self._clock.now()) > 0.0:
                await self._clock.sleep(min(wait_s, 1.0))
            self._stop.check()
            try:
                answer = await inner(request)
            except EndpointError as error:
                if not self._is_absence(request, error):
                    raise
                self._refused(request, error)
                return None
            self._is_there(group, doubt)
            return answer
        except Stopped:
            self._end(group)
            raise
        finally:
            doubt.turns.done()

    def _is_there(self, group: _Group, doubt: _Doubt) -> None:
        """It has answered: what it refused is told apart from now on."""
        self._cleared |= doubt.rows
        self._end(group)

    def _end(self, group: _Group) -> None:
        """There is no doubt any more: all who wait look again."""
        if (doubt := self._doubts.pop(group, None)) is not None:
            doubt.turns.send_all_on()


def _said(model: str, left: _Left) -> str:
    names = [name for name in left.variants if name != "default"]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    variants = f" (variant{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more})" if names else ""
    return f"the endpoint does not answer for model {model}{variants}: {left.error.message}"
