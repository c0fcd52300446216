"""All of pacing put together as a run does it, against an endpoint that is a function of row and time; in virtual time."""

import random
from collections.abc import Callable, Iterable

import anyio

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.events import Event, Hear, Paused, Resumed, Retried
from batchrun.pace.gate import Gate
from batchrun.pace.health import Health
from batchrun.pace.limits import Limits
from batchrun.pace.policy import Policy
from batchrun.pace.quota import Quota
from batchrun.pace.retry import Retrying
from batchrun.records import Answer, Complete, Request, Usage
from batchrun.runner.backlog import Backlog
from batchrun.runner.window import widened
from batchrun.sections import Retry
from batchrun.stop import Stopped, StopSign
from virtual import BEGIN, LoopClock

PLACES = 8
POLICY = Policy()
Says = Callable[[int, float], Kind | None]


def numbered(row: int) -> Request:
    return Request(row, str(row), "default", 0, b"{}", f"h{row}", "m")


def answer_of(seconds: float) -> Answer:
    return Answer("x", Usage(1, 1, 2), latency_s=seconds)


class Run:
    """A run against an endpoint: `says` gives the fault of a row at a second of the run, None for an answer, which takes
    `answer_s`. A fault takes a tenth of a second, a timeout a minute. `ended` is what each row ended in: an Answer, the kind
    of its fault, or Stopped.
    """

    def __init__(
        self,
        says: Says,
        settings: Retry = Retry(),  # noqa: B008 - frozen
        places: int = PLACES,
        *,
        answer_s: float = 2.0,
        seed: int | None = 1,
        others_ok: bool = False,
        gives_up: bool = False,
        asked_before: bool = False,
    ) -> None:
        self.says = says
        self.answer_s = answer_s
        self.seed = seed
        self.places = places
        self.clock = LoopClock()
        self.asked: list[tuple[float, int]] = []
        self.ended: dict[int, object] = {}
        self.paused: list[tuple[float, float]] = []
        self.resumed: list[float] = []
        self.gave_up: list[float] = []
        self.backlog = Backlog(others_ok=others_ok, gives_up=gives_up)
        if asked_before:
            self.backlog.seen_before()
        self._beside = 0
        self.sign = StopSign()
        policy = Policy(max_attempts=settings.max_attempts)
        self.health = Health(self.clock, self.backlog, policy)
        self.gate = Gate(self.clock, self.sign, self.health, self.backlog, self._hear, policy)
        self.quota = Quota(self.clock, self.sign, self._hear)
        self.limits = Limits(places, None, self.clock, check=self.quota.checked(self.gate.check))
        self.retrying = Retrying(settings, self.clock, self.sign, self.health, self.backlog, self._hear, policy)
        self.stack(self.answer)

    def stack(self, answer: Complete) -> None:
        """Put pacing around `answer`."""
        self.complete = self.retrying.wrap(
            self.gate.wrap(self.quota.wrap(self.limits.wrap(self.health.watched(answer))))
        )

    @property
    def at(self) -> float:
        return self.clock.now() - BEGIN

    async def __call__(self, rows: Iterable[int]) -> None:
        if self.seed is not None:
            random.seed(self.seed)  # every jitter: the same story is told the same way again
        self.backlog.extend([numbered(row) for row in rows])
        self.backlog.end()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._out_of_turn, tasks)
            async with anyio.create_task_group() as work:
                for _ in range(widened(self.places)):
                    work.start_soon(self._work)
                work.start_soon(self._end, work)
            tasks.cancel_scope.cancel()

    async def _work(self) -> None:
        while self.backlog.has_next and self.sign.stop is None:
            await self._ask(self.backlog.pop())

    async def _end(self, work: anyio.abc.TaskGroup) -> None:
        """When the run is stopped, what is in flight ends, and what waits is sent home."""
        total = len(self.backlog) + self.health.asking
        while len(self.ended) < total:
            if self.sign.stop is not None:
                while self.health.in_flight:
                    await anyio.sleep(0.05)
                work.cancel_scope.cancel()
                return
            await anyio.sleep(1.0)

    async def _out_of_turn(self, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            while (request := self.backlog.pop_out_of_turn()) is not None:
                tasks.start_soon(self._one_beside, request)
            if self.backlog.witnesses and self.backlog.has_next:
                if self._beside < 8:
                    self.backlog.witnesses -= 1
                    self.backlog.scout()
                await anyio.sleep(3.0)
                continue
            await self.backlog.changed.wait()

    async def _one_beside(self, request: Request) -> None:
        self._beside += 1
        await self._ask(request)
        self._beside -= 1

    async def _ask(self, request: Request) -> None:
        try:
            self.ended[request.row] = await self.complete(request)
        except EndpointError as error:
            self.ended[request.row] = error.kind
        except Stopped:
            self.ended[request.row] = Stopped

    def rows(self, end: object) -> set[int]:
        """The rows that ended so: in an answer for Answer, else in that kind or in Stopped."""
        return {row for row, one in self.ended.items() if one is end or (end is Answer and isinstance(one, Answer))}

    def asked_between(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at, _ in self.asked)

    async def answer(self, request: Request) -> Answer:
        """The endpoint."""
        self.asked.append((self.at, request.row))
        kind = self.says(request.row, self.at)
        await self.clock.sleep(self.answer_s if kind is None else 60.0 if kind is Kind.TIMEOUT else 0.1)
        if kind is None:
            return answer_of(self.answer_s)
        raise EndpointError(kind, f"{kind}!")

    def _hear(self, event: Event) -> None:
        match event:
            case Paused():
                self.paused.append((self.at, event.patience_s))
            case Resumed():
                (self.resumed if event.answered else self.gave_up).append(self.at)


def retrying(
    inner: Complete, settings: Retry, clock: Clock, seen: Callable[[EndpointError], None] = lambda _: None
) -> Complete:
    """`inner` with retrying round it, and what that needs to know of the endpoint."""

    def hear(event: Event) -> None:
        if isinstance(event, Retried):
            seen(event.error)

    policy, rest = Policy(max_attempts=settings.max_attempts), Backlog()
    health = Health(clock, rest, policy)
    return Retrying(settings, clock, StopSign(), health, rest, hear, policy).wrap(health.watched(inner))


def gated(clock: Clock, hear: Hear) -> tuple[Gate, Health]:
    """A gate, and what counts for it next to the wire."""
    rest = Backlog()
    health = Health(clock, rest, POLICY)
    return Gate(clock, StopSign(), health, rest, hear, POLICY), health
