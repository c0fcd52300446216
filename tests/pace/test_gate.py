"""Faults that every row would meet: pause, probe, and only then stop (endpoint.md §4)."""

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.events import Event, Paused, Resumed
from batchrun.pace.advice import stop_message
from batchrun.pace.diagnosis import Diagnosis
from batchrun.pace.gate import Gate
from batchrun.pace.health import Health
from batchrun.pace.policy import SILENT_KINDS, Policy
from batchrun.records import COMPLETIONS, Answer, Complete, Request, Usage
from batchrun.runner.backlog import Backlog
from batchrun.stop import Stop, Stopped, StopSign
from virtual import BEGIN, LoopClock, VirtualLoop

ANSWER = Answer("x", Usage(1, 1, 2))
POLICY = Policy()
LIFE = sorted(ROW_KINDS | {Kind.RATE_LIMITED, Kind.EMPTY_OUTPUT})
"""Faults that say that the endpoint, the key and the address are good."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def numbered(number: int, model: str = "m", path: str = "/chat/completions") -> Request:
    return Request(number, str(number), "default", 0, b"{}", f"h{number}", model, path=path)


def fault(kind: Kind, message: str = "no", status: int | None = None, param: str | None = None) -> EndpointError:
    error = EndpointError(kind, message, status=status, param=param)
    if kind is Kind.SERVER and status == 200:  # a page for people, where an answer should be
        error.remedy = "check that [endpoint] base_url is an OpenAI-compatible endpoint"
    return error


class Plan:
    """Gives the kinds of a plan in turn, to whoever asks, an answer for None and after its end. Each takes a hundredth of a
    second.
    """

    def __init__(self, *plan: Kind | None) -> None:
        self.plan = list(plan)
        self.asked: list[int] = []

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request.row)
        kind = self.plan.pop(0) if self.plan else None
        await anyio.sleep(0.01)
        if kind is not None:
            raise fault(kind, f"{kind}!", 401)
        return ANSWER


class Script:
    """Answers each request by what `says` gives for it: a fault, or None for an answer."""

    def __init__(self, says: Callable[[Request], EndpointError | None]) -> None:
        self.says = says
        self.asked: list[int] = []

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request.row)
        await anyio.sleep(0.01)
        found = self.says(request)
        if found is not None:
            raise found
        return ANSWER


class Gated:
    """A gate with what it needs round an endpoint. `told` are the patiences of pauses and the lengths of closures."""

    def __init__(self, endpoint: Complete, backlog: Backlog | None = None) -> None:
        clock = LoopClock()
        self.sign = StopSign()
        self.paused: list[EndpointError] = []
        self.told: list[float] = []
        self.backlog = Backlog() if backlog is None else backlog
        self.health = Health(clock, self.backlog, POLICY)
        self.gate = Gate(clock, self.sign, self.health, self.backlog, self._hear, POLICY)
        self.complete = self.gate.wrap(self.health.watched(endpoint))
        self.clock = clock

    @property
    def stop(self) -> Stop | None:
        return self.sign.stop

    @property
    def at(self) -> float:
        return self.clock.now() - BEGIN

    async def ends(self, requests: Iterable[Request]) -> list[object]:
        """What each request ended in, all of them asked together: its answer, the kind of its fault, or Stopped. What is
        asked beside them out of turn is asked too.
        """
        ended: dict[int, object] = {}

        async def one(request: Request) -> None:
            try:
                ended[request.row] = await self.complete(request)
            except EndpointError as error:
                ended[request.row] = error.kind
            except Stopped:
                ended[request.row] = Stopped

        async def beside() -> None:
            while True:
                while (request := self.backlog.pop_out_of_turn()) is not None:
                    group.start_soon(one, request)
                await self.backlog.changed.wait()

        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as group:
                outer.start_soon(beside)
                await anyio.lowlevel.checkpoint()
                for request in requests:
                    group.start_soon(one, request)
            outer.cancel_scope.cancel()
        return [ended[row] for row in sorted(ended)]

    async def fails(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(EndpointError):
                await self.complete(numbered(0))

    def _hear(self, event: Event) -> None:
        match event:
            case Paused():
                self.paused.append(event.error)
                self.told.append(event.patience_s)
            case Resumed():
                self.told.append(event.after_s)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_lasts_stops(kind: Kind) -> None:
    """The first such fault pauses and probes once; when the probe fails so too, the run is stopped, with what to do."""
    endpoint = Plan(kind, kind)
    gated = Gated(endpoint)
    assert await gated.ends([numbered(0)]) == [Stopped]
    assert ([error.kind for error in gated.paused], len(endpoint.asked)) == ([kind], 2)
    assert 2.0 <= gated.at < 2.1
    assert gated.stop is not None
    assert (gated.stop.kind, gated.stop.exit_code) == (kind, 3)
    assert gated.stop.message.startswith(f"stopped ({kind}): {kind}!; ")
    assert await gated.ends([numbered(1)]) == [Stopped]
    assert len(endpoint.asked) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_passes_does_not_stop(kind: Kind) -> None:
    """When the probe is answered the request has its answer and the run goes on."""
    endpoint = Plan(kind)
    gated = Gated(endpoint)
    assert await gated.complete(numbered(0)) is ANSWER
    assert await gated.complete(numbered(0)) is ANSWER
    assert (gated.stop, len(gated.paused), len(endpoint.asked)) == (None, 1, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", LIFE)
async def test_a_probe_with_a_sign_of_life_opens_the_gate(kind: Kind) -> None:
    """A probe that meets a fault which says that the key is good raises it; the run is not stopped."""
    gated = Gated(Plan(Kind.CREDENTIALS, kind))
    with pytest.raises(EndpointError) as caught:
        await gated.complete(numbered(0))
    assert caught.value.kind is kind
    assert gated.stop is None
    assert gated.told == [0.0, pytest.approx(2.0, abs=0.1)]
    assert await gated.complete(numbered(0)) is ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(set(Kind) - FATAL_KINDS - {Kind.CONNECT}))
async def test_other_faults_pass_through(kind: Kind) -> None:
    """A fault of one row or moment is passed on and pauses nobody."""
    gated = Gated(Plan(*[kind] * 50))
    await gated.fails(50)
    assert (gated.stop, gated.paused) == (None, [])


@pytest.mark.anyio
async def test_many_connect_faults_in_a_row_stop() -> None:
    """Connect faults are retried one by one, and stop the run when there are many with nothing between."""
    gated = Gated(Plan(*[Kind.CONNECT] * 100))
    await gated.fails(POLICY.outage_rows - 1)
    assert gated.paused == []
    assert await gated.ends([numbered(0)]) == [Stopped]
    assert len(gated.paused) == 1
    assert gated.stop is not None
    assert "check that the endpoint is up" in gated.stop.message


@pytest.mark.anyio
@pytest.mark.parametrize("between", [None, Kind.SERVER, Kind.BAD_REQUEST])
async def test_any_sign_of_life_starts_the_count_again(between: Kind | None) -> None:
    """An answer, even a fault that was answered, starts the count of connect faults again."""
    row: list[Kind | None] = [Kind.CONNECT] * (POLICY.outage_rows - 1)
    gated = Gated(Plan(*row, between, *row))
    await gated.fails(len(row))
    if between is None:
        assert await gated.complete(numbered(0)) is ANSWER
    else:
        await gated.fails(1)
    await gated.fails(len(row))
    assert gated.paused == []


@pytest.mark.anyio
async def test_connect_faults_that_last_stop_a_small_job() -> None:
    """A job of one row doesn't need twenty faults: five that span ten seconds are enough."""
    endpoint = Plan(*[Kind.CONNECT] * 100)
    gated = Gated(endpoint)
    await gated.fails(POLICY.lasting_connect_faults - 1)
    assert gated.paused == []
    await anyio.sleep(POLICY.lasting_connect_s)
    assert await gated.ends([numbered(0)]) == [Stopped]
    assert len(endpoint.asked) == POLICY.lasting_connect_faults + 1


@pytest.mark.anyio
@pytest.mark.parametrize("recovers", [True, False])
async def test_nothing_starts_while_the_probe_is_out(recovers: bool) -> None:
    """While the gate is shut nobody asks but one; all are answered when it opens, or all are stopped."""
    fine_at = BEGIN + 1.5 if recovers else float("inf")
    endpoint = Script(lambda _: fault(Kind.CREDENTIALS) if gated.clock.now() < fine_at else None)
    gated = Gated(endpoint)
    asked: list[int] = []

    async def look() -> None:
        for _ in range(3):
            await anyio.sleep(0.5)
            asked.append(len(endpoint.asked))

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        ended = await gated.ends(map(numbered, range(8)))
    assert asked == [8, 8, 8]
    assert len(gated.paused) == 1
    assert ended == [ANSWER if recovers else Stopped] * 8
    assert len(endpoint.asked) == (16 if recovers else 10)


@pytest.mark.anyio
@pytest.mark.parametrize("param", ["temperature", None, "", "messages", "body.temperature"])
async def test_the_same_refusal_of_every_row_stops(param: str | None) -> None:
    """A job whose first rows are all refused in the same words, but for numbers and what is quoted, is stopped with few rows
    spent: also where the words name no parameter. A row far ahead decides.
    """
    backlog = Backlog()
    backlog.extend([numbered(row) for row in range(100, 200)])
    refused = Script(lambda one: fault(Kind.BAD_REQUEST, f"HTTP 400: bad 'v{one.row}' of {one.row}", 400, param))
    gated = Gated(refused, backlog)
    ended = await gated.ends(map(numbered, range(64)))
    assert ended.count(Kind.BAD_REQUEST) == POLICY.refused_rows - 1
    assert ended.count(Stopped) == 64 - ended.count(Kind.BAD_REQUEST) + 2
    assert len(refused.asked) == 64 + 3  # those in flight, one again, and two far ahead
    assert refused.asked[-2:] == [199, 149]
    assert gated.stop is not None
    assert gated.stop.exit_code == 3
    assert ("`temperature`" in gated.stop.message) == (param == "temperature")
    assert "HTTP 400: bad" in gated.stop.message


@pytest.mark.anyio
async def test_refusals_of_the_first_rows_alone_do_not_stop() -> None:
    """Where a row far ahead is answered, each row's refusal is its own, and none is asked for it again and again."""
    backlog = Backlog()
    backlog.extend([numbered(row) for row in range(100, 200)])
    refused = Script(lambda one: fault(Kind.BAD_REQUEST, "HTTP 400: too long", 400) if one.row < 30 else None)
    gated = Gated(refused, backlog)
    assert await gated.ends(map(numbered, range(30))) == [Kind.BAD_REQUEST] * 30 + [ANSWER]
    assert gated.stop is None
    assert len(refused.asked) == 30 + 2


@pytest.mark.anyio
async def test_different_refusals_do_not_stop() -> None:
    """Rows that are refused in different words are each refused for themselves."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    gated = Gated(Script(lambda one: fault(Kind.BAD_REQUEST, words[one.row], 400)))
    assert await gated.ends(map(numbered, range(8))) == [Kind.BAD_REQUEST] * 8
    assert gated.paused == []


@pytest.mark.anyio
async def test_refusals_after_an_answer_do_not_stop() -> None:
    """Once a row was answered with the job's parameters, a refusal is a row's own (a row may override them)."""
    gated = Gated(Script(lambda one: fault(Kind.BAD_REQUEST, param="temperature") if one.row else None))
    assert await gated.complete(numbered(0)) is ANSWER
    assert await gated.ends(map(numbered, range(1, 30))) == [Kind.BAD_REQUEST] * 29
    assert gated.paused == []


@pytest.mark.anyio
async def test_one_row_asked_again_is_one_row() -> None:
    """The same row refused again and again says nothing of the others."""
    gated = Gated(Script(lambda _: fault(Kind.BAD_REQUEST, param="temperature")))
    await gated.fails(20)
    assert gated.paused == []


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
@pytest.mark.parametrize("first", [0, 2])
async def test_one_row_alone_does_not_stop_a_job(kind: Kind, first: int) -> None:
    """A fault that lasts on one row, while another that waits is answered, fails that row and no other: also where it is
    the very first row of a job.
    """
    script = Script(lambda one: fault(kind, "no", 403) if one.row == first else None)
    gated = Gated(script)
    ended: list[object] = []

    async def later() -> None:
        await anyio.sleep(1.0)
        ended.extend(await gated.ends(map(numbered, range(10, 14))))

    if first:
        assert await gated.complete(numbered(0)) is ANSWER
    async with anyio.create_task_group() as group:
        group.start_soon(later)
        with pytest.raises(EndpointError):
            await gated.complete(numbered(first))
    assert ended == [ANSWER] * 4
    assert script.asked.count(first) == 2
    assert (gated.stop, len(gated.paused)) == (None, 1)


@pytest.mark.anyio
async def test_the_first_rows_of_a_job_alone_do_not_stop_it() -> None:
    """A firewall that dislikes the text of the rows that come first: one far ahead decides, not the next."""
    backlog = Backlog()
    backlog.extend([numbered(row) for row in range(100, 200)])
    script = Script(lambda one: fault(Kind.CREDENTIALS, "blocked", 403) if one.row < 20 else None)
    gated = Gated(script, backlog)
    assert await gated.ends(map(numbered, range(8))) == [Kind.CREDENTIALS] * 8 + [ANSWER] * (len(gated.told) // 2)
    assert gated.stop is None


@pytest.mark.anyio
async def test_a_second_row_with_such_a_fault_costs_no_pause() -> None:
    """What was one row's own once is taken as such again, as long as others are answered in between."""
    gated = Gated(Script(lambda one: fault(Kind.CREDENTIALS, "no", 403) if one.row % 2 else None))
    gated.backlog.extend([numbered(100)])
    assert await gated.ends(map(numbered, range(2))) == [ANSWER, Kind.CREDENTIALS]  # no far row has to tell
    began = gated.at
    for row in range(2, 12):
        if row % 2:
            with pytest.raises(EndpointError):
                await gated.complete(numbered(row))
        else:
            assert await gated.complete(numbered(row)) is ANSWER
    assert gated.at < began + 1.0
    assert len(gated.paused) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("part", [{"model": "nonesuch"}, {"path": COMPLETIONS}])
async def test_a_model_or_path_that_is_missing_fails_its_own_rows(part: dict[str, str]) -> None:
    """A 404 is judged by path and model: the others go on, and the message names what is missing."""
    script, backlog = Script(lambda one: fault(Kind.NOT_FOUND, "HTTP 404", 404) if one.row % 2 else None), Backlog()
    gated = Gated(script, backlog)
    requests = [numbered(row, **(part if row % 2 else {})) for row in range(40)]
    messages = []
    backlog.extend(requests[8:])
    ended = await gated.ends(requests[:8])
    assert ended[:8] == [ANSWER, Kind.NOT_FOUND] * 4
    assert await gated.ends(requests[8:30]) == [ANSWER, Kind.NOT_FOUND] * 11
    with pytest.raises(EndpointError) as caught:
        await gated.complete(requests[1])
    messages.append(caught.value.message)
    assert all(value in messages[0] for value in part.values())
    assert "other requests are answered" in messages[0]
    assert (gated.stop, len(gated.paused)) == (None, 0)


@pytest.mark.anyio
async def test_the_end_of_a_job_alone_does_not_stop_it() -> None:
    """The row at the end may be one that is refused alone, as the first one: another far row is asked before a run is stopped."""
    backlog = Backlog()
    backlog.extend([numbered(row) for row in range(100, 200)])
    script = Script(lambda one: fault(Kind.CREDENTIALS, "blocked", 403) if one.row in (0, 199) else None)
    gated = Gated(script, backlog)
    assert Stopped not in await gated.ends([numbered(0)])
    assert gated.stop is None


@pytest.mark.anyio
async def test_a_front_end_that_is_up_before_its_model_is_waited_for() -> None:
    """A 404 without a word, from an endpoint that has not answered yet, is probed for half a minute."""

    def says(_request: Request) -> EndpointError | None:
        error = fault(Kind.NOT_FOUND, "HTTP 404", 404)
        error.body = ""
        return error if gated.at < 10.0 else None

    gated = Gated(Script(says))
    assert await gated.ends(map(numbered, range(8))) == [ANSWER] * 8


@pytest.mark.anyio
async def test_a_key_that_never_was_good_stops_soon() -> None:
    """When nobody was ever answered the run is stopped after two probes, whoever met the fault first."""
    script = Script(lambda _: fault(Kind.CREDENTIALS, status=401))
    gated = Gated(script)
    assert await gated.ends(map(numbered, range(1, 33))) == [Stopped] * 32
    assert len(script.asked) <= 32 + 2
    assert len(gated.paused) == 1
    assert gated.at < 3.0


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.CREDENTIALS, Kind.NOT_FOUND])
@pytest.mark.parametrize("lasts_s", [10.0, 100.0])
async def test_a_key_or_address_that_was_good_is_waited_for(kind: Kind, lasts_s: float) -> None:
    """A gateway or router that restarts says anything for a while: it is waited for as long as it had been answering, two
    minutes at least.
    """
    script = Script(lambda _: fault(kind) if 0 < gated.at - 1.0 < lasts_s else None)
    gated = Gated(script)
    assert await gated.complete(numbered(0)) is ANSWER
    await anyio.sleep(1.5)
    assert await gated.ends(map(numbered, range(1, 9))) == [ANSWER] * 8
    assert gated.told[0] == POLICY.least_patience_s
    assert len(script.asked) < 9 + 8 + 8


@pytest.mark.anyio
async def test_a_spent_account_is_not_waited_for() -> None:
    """Credit does not come back by itself: two looks, of two rows, are enough."""
    script = Script(lambda one: fault(Kind.CREDIT, status=402) if one.row else None)
    gated = Gated(script)
    assert await gated.complete(numbered(0)) is ANSWER
    assert await gated.ends(map(numbered, range(1, 9))) == [Stopped] * 8
    assert len(script.asked) == 1 + 8 + 2


@pytest.mark.anyio
@pytest.mark.parametrize("comes_back_after", [1, 2, 4])
async def test_an_endpoint_that_answered_before_is_given_time_to_come_back(comes_back_after: int) -> None:
    """A server that restarts is probed with growing pauses before the run is stopped."""
    gated = Gated(Plan(None, *[Kind.CONNECT] * (POLICY.connect_faults - 1 + comes_back_after)))
    assert await gated.complete(numbered(0)) is ANSWER
    await gated.fails(POLICY.connect_faults - 1)
    assert await gated.complete(numbered(0)) is ANSWER
    assert gated.told == [30.0, pytest.approx(sum([2.0, 4.0, 5.0, 5.0][:comes_back_after]), abs=0.1)]
    assert gated.stop is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answering_s", "patience_s"),
    [(0.0, 30.0), (20.0, 30.0), (600.0, 600.0), (36_000.0, 3600.0)],
)
async def test_an_endpoint_is_waited_for_as_long_as_it_was_there(answering_s: float, patience_s: float) -> None:
    """One that answered for ten minutes is probed for ten minutes when it can't be reached, at least for half a minute, at
    most for an hour; with twelve probes a minute, since they cost nothing. It is said for how long.
    """
    endpoint = Plan(None, None, *[Kind.CONNECT] * 1000)
    gated = Gated(endpoint)
    assert await gated.complete(numbered(0)) is ANSWER
    await anyio.sleep(answering_s)
    assert await gated.complete(numbered(0)) is ANSWER
    await gated.fails(POLICY.connect_faults - 1)
    asked, began = len(endpoint.asked), gated.at
    assert await gated.ends([numbered(0)]) == [Stopped]
    assert gated.told == [pytest.approx(patience_s, abs=0.1)]
    assert patience_s - 5.0 <= gated.at - began < patience_s + 1.0
    assert len(endpoint.asked) - asked <= 4 + patience_s / 5.0


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_the_last_request_of_all_can_only_fail_itself(kind: Kind) -> None:
    """Where the others have their answers, and nothing is left but what stopped an earlier run, a fault of everybody's is
    the row's own: to stop again would save nobody.
    """
    endpoint, backlog = Plan(kind, kind), Backlog(others_ok=True)
    backlog.seen_before()
    backlog.end()
    gated = Gated(endpoint, backlog)
    assert await gated.ends([numbered(0)]) == [kind]
    assert (gated.stop, len(endpoint.asked)) == (None, 2)


@pytest.mark.anyio
async def test_what_fails_after_the_stop_is_not_probed() -> None:
    """A request that was on the wire all the while, and meets the fault when the run is already stopped, asks no more."""
    stopped = anyio.Event()
    asked: list[int] = []

    async def refuse(request: Request) -> Answer:
        asked.append(request.row)
        if request.row == 1:
            await stopped.wait()
        raise fault(Kind.CREDIT, status=402)

    gated = Gated(refuse)

    async def late() -> None:
        assert await gated.ends([numbered(1)]) == [Stopped]

    async with anyio.create_task_group() as group:
        group.start_soon(late)
        await anyio.sleep(0.1)
        assert await gated.ends([numbered(0)]) == [Stopped]
        stopped.set()
    assert (asked, len(gated.paused)) == ([1, 0, 0], 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "status", "probes", "within_s"),
    [
        (Kind.SERVER, 500, POLICY.max_attempts, 70.0),
        (Kind.SERVER, 503, 40, 310.0),
        (Kind.DISCONNECTED, None, POLICY.max_attempts, 70.0),
        (Kind.MALFORMED, 200, 3, 15.0),
        (Kind.SERVER, 200, 3, 15.0),
        (Kind.TIMEOUT, None, 0, 1.0),
    ],
)
async def test_an_endpoint_that_never_answered_anybody_is_given_up(
    kind: Kind, status: int | None, probes: int, within_s: float
) -> None:
    """Eight rows that failed, with nobody ever answered, close the gate before all rows are asked in turn; how long it is
    probed depends on what is said: one that is loading is waited for, and a time-out may be billed each time.
    """
    script = Script(lambda _: fault(kind, status=status))
    gated = Gated(script)
    assert Stopped in await gated.ends(map(numbered, range(64)))
    assert len(script.asked) <= 64 + probes
    assert gated.at < within_s
    assert gated.stop is not None
    assert gated.stop.exit_code == 3
    if kind is Kind.TIMEOUT:
        assert "[timeouts] total" in gated.stop.message


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.RATE_LIMITED, Kind.TIMEOUT])
async def test_an_outage_of_an_hour_is_waited_for(kind: Kind) -> None:
    """An endpoint that answered before may answer nobody for an hour; after two it is given up."""
    gated = Gated(Plan(None, *[kind] * 1000))
    assert await gated.complete(numbered(0)) is ANSWER
    for _ in range(60):
        await anyio.sleep(60.0)
        await gated.fails(3)
    assert gated.paused == []
    await anyio.sleep(3600.0)
    assert await gated.ends([numbered(0)]) == [Stopped]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (fault(Kind.CREDENTIALS, "m"), "the variable RELAY_KEY ([endpoint] api_key_env"),
        (fault(Kind.CREDIT, "m"), "top up the account"),
        (fault(Kind.NOT_FOUND, "m"), "[endpoint] base_url and model"),
        (fault(Kind.NOT_FOUND, "m", 308), "set [endpoint] base_url to it"),
        (fault(Kind.CONNECT, "m"), "check that the endpoint is up"),
        (fault(Kind.BAD_REQUEST, "m", param="top_k"), "`top_k`: change it under [params]"),
        (fault(Kind.BAD_REQUEST, "m"), "every row so far was refused"),
        (fault(Kind.SERVER, "m"), "does not answer"),
        (fault(Kind.SERVER, "m", 200), "OpenAI-compatible"),
        (fault(Kind.RATE_LIMITED, "m"), "requests_per_minute"),
        (fault(Kind.MALFORMED, "m"), "OpenAI-compatible"),
        (fault(Kind.TIMEOUT, "m"), "[timeouts] total"),
    ],
    ids=lambda value: value.kind if isinstance(value, EndpointError) else "",
)
def test_the_message_says_what_to_do(error: EndpointError, says: str) -> None:
    """What stopped the run, what to change, and that nothing is lost, in one line."""
    message = stop_message(error, "RELAY_KEY")
    assert message.startswith(f"stopped ({error.kind}): m; ")
    assert says in message
    assert message.endswith("the same command goes on from here")


def test_without_a_name_the_key_is_the_default_one() -> None:
    """A job that names no variable used OPENAI_API_KEY."""
    assert "OPENAI_API_KEY" in stop_message(fault(Kind.CREDENTIALS, "m"), None)


def test_every_silent_kind_has_advice_or_a_plain_word() -> None:
    """No kind of fault stops a run without a sentence on what to do."""
    for kind in SILENT_KINDS | FATAL_KINDS:
        assert len(stop_message(fault(kind, "m"), None)) > len(
            f"stopped ({kind}): m; ; the same command goes on from here"
        )


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "model", "own"), [(403, "m", True), (401, "m", False), (401, "other", True)])
async def test_a_row_that_is_refused_twice_with_an_answer_between_fails_itself(
    status: int, model: str, own: bool
) -> None:
    """Once such a fault was one row's own. But not where it is the key, which is good for that model at other times."""
    health = Health(LoopClock(), Backlog(), POLICY)
    diagnosis = Diagnosis(LoopClock(), health, POLICY)
    health.answers, health.groups = 1, {("/chat/completions", "m")}
    first, second = numbered(0, model), numbered(1, model)
    refusal = fault(Kind.CREDENTIALS, "no", status)
    diagnosis.acquit(first, refusal)
    assert diagnosis.closes(second, refusal) is not None
    health.answers = 2
    assert diagnosis.was_refused(second)
    assert diagnosis.is_own(second, refusal) is own
    diagnosis.forget(second.key)
    assert not diagnosis.was_refused(second)
