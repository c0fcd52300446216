"""Faults that every row would meet: pause, probe, and only then stop (endpoint.md §4)."""

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from batchrun.errors import FATAL_KINDS, EndpointError, Kind
from batchrun.pace import alarm
from batchrun.pace.alarm import CONNECT_FAULTS_IN_A_ROW
from batchrun.pace.guard import Guard, Stopped
from batchrun.records import Answer, Request, Usage

REQUEST = Request(0, "0", "default", 0, b"{}", "h", "m")
ANSWER = Answer("x", Usage(1, 1, 2))
PASSING = sorted(set(Kind) - FATAL_KINDS - {Kind.CONNECT})


class FakeClock:
    """Time that passes only while somebody sleeps; `meanwhile` runs during a sleep."""

    def __init__(self) -> None:
        self.time = 100.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def now(self) -> float:
        return self.time

    def epoch(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.wait_all_tasks_blocked()
        self.meanwhile()
        await anyio.wait_all_tasks_blocked()
        self.time += seconds


class Endpoint:
    """Gives the kinds of `plan` in turn, an answer for None and after its end."""

    def __init__(self, *plan: Kind | None) -> None:
        self.plan = list(plan)
        self.asked = 0

    async def complete(self, request: Request) -> Answer:
        self.asked += 1
        kind = self.plan.pop(0) if self.plan else None
        await anyio.lowlevel.checkpoint()
        if kind is not None:
            raise EndpointError(kind, f"{kind}!", status=401)
        return ANSWER


def guarded(clock: FakeClock) -> tuple[Guard, list[EndpointError]]:
    paused: list[EndpointError] = []
    return Guard(clock, lambda error, _patience_s: paused.append(error)), paused


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_lasts_stops(kind: Kind) -> None:
    """The first such fault pauses and probes once; when the probe fails so too, the run is stopped with a mend."""
    clock, endpoint = FakeClock(), Endpoint(kind, kind)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert ([error.kind for error in paused], clock.slept, endpoint.asked) == ([kind], [2.0], 2)
    assert guard.shut.is_set()
    assert guard.fault is not None
    assert guard.message().startswith(f"stopped ({kind}): {kind}!; ")
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert endpoint.asked == 2


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_a_fault_that_passes_does_not_stop(kind: Kind) -> None:
    """When the probe is answered the request has its answer and the run goes on."""
    clock, endpoint = FakeClock(), Endpoint(kind)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    assert await complete(REQUEST) is ANSWER
    assert (guard.fault, guard.shut.is_set(), len(paused), endpoint.asked) == (None, False, 1, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PASSING)
async def test_a_probe_with_another_fault_opens_the_gate(kind: Kind) -> None:
    """A probe that meets a fault of its own raises it to be retried; the run is not stopped."""
    clock, endpoint = FakeClock(), Endpoint(Kind.CREDENTIALS, kind)
    opened: list[tuple[float, bool]] = []
    guard = Guard(clock, lambda _error, _patience_s: None, lambda *told: opened.append(told))
    complete = guard.wrap(endpoint.complete)
    with pytest.raises(EndpointError) as caught:
        await complete(REQUEST)
    assert caught.value.kind is kind
    assert (guard.fault, opened) == (None, [(2.0, True)])
    assert await complete(REQUEST) is ANSWER


@pytest.mark.anyio
@pytest.mark.parametrize("kind", PASSING)
async def test_other_faults_pass_through(kind: Kind) -> None:
    """A fault of one row or moment is passed on and pauses nobody."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    endpoint = Endpoint(*[kind] * 50)
    complete = guard.wrap(endpoint.complete)
    for _ in range(50):
        with pytest.raises(EndpointError):
            await complete(REQUEST)
    assert (guard.fault, paused, clock.slept) == (None, [], [])


async def fail(complete: Callable[[Request], object], times: int) -> None:
    for _ in range(times):
        with pytest.raises(EndpointError):
            await complete(REQUEST)  # type: ignore[misc]


@pytest.mark.anyio
async def test_many_connect_faults_in_a_row_stop() -> None:
    """Connect faults are retried one by one, and stop the run when there are many with nothing between."""
    clock, endpoint = FakeClock(), Endpoint(*[Kind.CONNECT] * 100)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    assert paused == []
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert len(paused) == 1
    assert "check that the endpoint is up" in guard.message()


@pytest.mark.anyio
@pytest.mark.parametrize("between", [None, Kind.SERVER, Kind.BAD_REQUEST])
async def test_any_sign_of_life_starts_the_count_again(between: Kind | None) -> None:
    """An answer, even a fault that was answered, starts the count of connect faults again."""
    row: list[Kind | None] = [Kind.CONNECT] * (CONNECT_FAULTS_IN_A_ROW - 1)
    clock, endpoint = FakeClock(), Endpoint(*row, between, *row)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, len(row))
    if between is None:
        assert await complete(REQUEST) is ANSWER
    else:
        await fail(complete, 1)
    await fail(complete, len(row))
    assert paused == []


@pytest.mark.anyio
@pytest.mark.parametrize("recovers", [True, False])
async def test_nothing_starts_while_the_probe_is_out(recovers: bool) -> None:
    """While the gate is shut nobody asks; all are answered when it opens, or all are stopped."""
    clock = FakeClock()
    endpoint = Endpoint(*[Kind.CREDENTIALS] * (3 if recovers else 4))
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    ends: list[object] = []
    asked_in_the_pause: list[int] = []
    clock.meanwhile = lambda: asked_in_the_pause.append(endpoint.asked)

    async def one() -> None:
        try:
            ends.append(await complete(REQUEST))
        except Stopped:
            ends.append(Stopped)

    async with anyio.create_task_group() as group:
        for _ in range(3):  # in flight together: each meets the fault, one probes
            group.start_soon(one)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        for _ in range(5):  # these come when the gate is shut
            group.start_soon(one)
    assert asked_in_the_pause == [3]
    assert len(paused) == 1
    assert ends == [ANSWER if recovers else Stopped] * 8
    assert endpoint.asked == (3 + 8 if recovers else 4)


def numbered(number: int) -> Request:
    return Request(number, str(number), "default", 0, b"{}", f"h{number}", "m")


class Script:
    """Answers each request by what `says` gives for its row: a fault, or None for an answer."""

    def __init__(self, says: Callable[[int], EndpointError | None]) -> None:
        self.says = says
        self.asked: list[int] = []

    async def complete(self, request: Request) -> Answer:
        self.asked.append(request.row)
        await anyio.lowlevel.checkpoint()
        fault = self.says(request.row)
        if fault is not None:
            raise fault
        return ANSWER


async def ends(complete: Callable[[Request], object], rows: range) -> list[object]:
    """What each row ended in, all of them asked together: its answer, the kind of its fault, or Stopped."""
    ended: dict[int, object] = {}

    async def one(row: int) -> None:
        try:
            ended[row] = await complete(numbered(row))  # type: ignore[misc]
        except EndpointError as error:
            ended[row] = error.kind
        except Stopped:
            ended[row] = Stopped

    async with anyio.create_task_group() as group:
        for row in rows:
            group.start_soon(one, row)
    return [ended[row] for row in rows]


def refusal(param: str | None) -> EndpointError:
    return EndpointError(Kind.BAD_REQUEST, "HTTP 400: no", status=400, param=param)


@pytest.mark.anyio
async def test_the_same_parameter_refused_on_the_first_rows_stops() -> None:
    """A job whose every first row is refused for one parameter is stopped, with few rows spent and the mend named."""
    clock, script = FakeClock(), Script(lambda _: refusal("temperature"))
    guard, paused = guarded(clock)
    ended = await ends(guard.wrap(script.complete), range(64))
    assert ended.count(Kind.BAD_REQUEST) == alarm.REFUSED_ROWS - 1
    assert ended.count(Stopped) == 64 - ended.count(Kind.BAD_REQUEST)
    assert (len(script.asked), len(paused)) == (65, 1)  # those in flight, and one probe
    assert "`temperature`" in guard.message()
    assert "[params]" in guard.message()


@pytest.mark.anyio
@pytest.mark.parametrize("param", [None, "", "messages", "messages[3].content", "input", "None"])
async def test_refusals_for_what_stands_in_a_row_do_not_stop(param: str | None) -> None:
    """A fault of the rows' own content is each row's, however many there are."""
    clock, script = FakeClock(), Script(lambda _: refusal(param))
    guard, paused = guarded(clock)
    assert await ends(guard.wrap(script.complete), range(30)) == [Kind.BAD_REQUEST] * 30
    assert paused == []


@pytest.mark.anyio
async def test_refusals_after_an_answer_do_not_stop() -> None:
    """Once a row was answered with the job's parameters, a refusal is a row's own (a row may override them)."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    script = Script(lambda row: refusal("temperature") if row else None)
    complete = guard.wrap(script.complete)
    assert await complete(numbered(0)) is ANSWER
    assert await ends(complete, range(1, 30)) == [Kind.BAD_REQUEST] * 29
    assert paused == []


@pytest.mark.anyio
async def test_one_row_asked_again_is_one_row() -> None:
    """The same row refused again and again says nothing of the others."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    complete = guard.wrap(Script(lambda _: refusal("temperature")).complete)
    for _ in range(20):
        with pytest.raises(EndpointError):
            await complete(numbered(1))
    assert paused == []


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_one_row_alone_does_not_stop_a_job_that_is_answered(kind: Kind) -> None:
    """A fault that lasts on one row, while another that waits is answered, fails that row and no other."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    script = Script(lambda row: EndpointError(kind, "no", status=404) if row == 2 else None)
    complete = guard.wrap(script.complete)
    assert await complete(numbered(0)) is ANSWER
    ended: list[object] = []

    async def later() -> None:
        ended.extend(await ends(complete, range(10, 14)))

    async with anyio.create_task_group() as group:
        clock.meanwhile = lambda: group.start_soon(later)
        with pytest.raises(EndpointError):
            await complete(numbered(2))
    assert ended == [ANSWER] * 4
    assert script.asked.count(2) == 2
    assert (guard.fault, len(paused)) == (None, 1)


@pytest.mark.anyio
async def test_a_second_row_with_such_a_fault_costs_no_pause() -> None:
    """What was one row's own once is taken as such again, as long as others are answered in between."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    script = Script(lambda row: EndpointError(Kind.NOT_FOUND, "no", status=404) if row % 2 else None)
    complete = guard.wrap(script.complete)
    assert await complete(numbered(0)) is ANSWER
    guard._alarm.acquit(EndpointError(Kind.NOT_FOUND, "no", status=404))
    for row in range(2, 12):
        if row % 2:
            with pytest.raises(EndpointError):
                await complete(numbered(row))
        else:
            assert await complete(numbered(row)) is ANSWER
    assert (paused, clock.slept) == ([], [])


@pytest.mark.anyio
@pytest.mark.parametrize("answered_before", [True, False])
async def test_a_key_revoked_in_the_middle_stops(answered_before: bool) -> None:
    """When nobody is answered any more the run is stopped after at most two probes, whoever met the fault first."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    script = Script(lambda row: EndpointError(Kind.CREDENTIALS, "no", status=401) if row else None)
    complete = guard.wrap(script.complete)
    if answered_before:
        assert await complete(numbered(0)) is ANSWER
    assert await ends(complete, range(1, 33)) == [Stopped] * 32
    assert len(script.asked) - answered_before <= 32 + 2
    assert len(paused) == 1


@pytest.mark.anyio
async def test_connect_faults_that_last_stop_a_small_job() -> None:
    """A job of one row doesn't need twenty faults: five that span ten seconds are enough."""
    clock, endpoint = FakeClock(), Endpoint(*[Kind.CONNECT] * 100)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, alarm.LASTING_CONNECT_FAULTS - 1)
    assert paused == []
    clock.time += alarm.LASTING_S
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert endpoint.asked == alarm.LASTING_CONNECT_FAULTS + 1


@pytest.mark.anyio
@pytest.mark.parametrize("comes_back_after", [1, 2, 4])
async def test_an_endpoint_that_answered_before_is_given_time_to_come_back(comes_back_after: int) -> None:
    """A server that restarts is probed with growing pauses before the run is stopped."""
    plan: list[Kind | None] = [None, *[Kind.CONNECT] * (CONNECT_FAULTS_IN_A_ROW - 1 + comes_back_after)]
    clock, endpoint = FakeClock(), Endpoint(*plan)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    assert await complete(REQUEST) is ANSWER
    assert clock.slept == [2.0, 4.0, 8.0, 16.0][:comes_back_after]
    assert (guard.fault, len(paused)) == (None, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", sorted(FATAL_KINDS))
async def test_the_last_request_of_all_can_only_fail_itself(kind: Kind) -> None:
    """Where the others have their answers, and nothing is left but what stopped an earlier run, a fault of everybody's is
    the row's own: to stop again would save nobody.
    """
    clock, endpoint = FakeClock(), Endpoint(kind, kind)
    guard = Guard(clock, lambda _error, _patience_s: None, is_last=lambda: True)
    with pytest.raises(EndpointError) as caught:
        await guard.wrap(endpoint.complete)(REQUEST)
    assert (caught.value.kind, guard.fault, endpoint.asked) == (kind, None, 2)


@pytest.mark.anyio
async def test_what_fails_after_the_stop_is_not_probed() -> None:
    """A request that was on the wire all the while, and meets the fault when the run is already stopped, asks no more."""
    clock = FakeClock()
    guard, paused = guarded(clock)
    stopped = anyio.Event()
    asked: list[int] = []

    async def refuse(request: Request) -> Answer:
        asked.append(request.row)
        if request.row == 1:
            await stopped.wait()
        raise EndpointError(Kind.CREDIT, "no", status=402)

    complete = guard.wrap(refuse)

    async def one(number: int) -> None:
        with pytest.raises(Stopped):
            await complete(numbered(number))

    async with anyio.create_task_group() as group:
        group.start_soon(one, 1)
        await anyio.wait_all_tasks_blocked()
        await one(0)
        stopped.set()
    assert (asked, len(paused)) == ([1, 0, 0], 1)


@pytest.mark.anyio
async def test_an_endpoint_that_does_not_come_back_stops() -> None:
    """After the last of the growing pauses the run is stopped."""
    clock, endpoint = FakeClock(), Endpoint(None, *[Kind.CONNECT] * 100)
    guard, _ = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert clock.slept == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answering_s", "patience_s"),
    [(0.0, 30.0), (20.0, 30.0), (600.0, 600.0), (36_000.0, 3600.0)],
)
async def test_an_endpoint_is_waited_for_as_long_as_it_was_there(answering_s: float, patience_s: float) -> None:
    """One that answered for ten minutes is probed for ten minutes when it can't be reached, at least for half a minute, at
    most for an hour; with one probe a minute at the end. It is said for how long, and when it is back.
    """
    clock, endpoint = FakeClock(), Endpoint(None, None, *[Kind.CONNECT] * 1000)
    told: list[float] = []
    guard = Guard(clock, lambda _error, seconds: told.append(seconds), lambda seconds, _: told.append(seconds))
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    clock.time += answering_s
    assert await complete(REQUEST) is ANSWER
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    asked = endpoint.asked
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert told == [patience_s]
    assert patience_s <= sum(clock.slept) < patience_s + 60.0
    assert max(clock.slept) <= 60.0
    assert endpoint.asked - asked <= 6 + patience_s / 60.0


@pytest.mark.anyio
async def test_an_endpoint_that_is_back_is_told_of() -> None:
    """When a probe is answered the run goes on, and says after how long."""
    clock, endpoint = FakeClock(), Endpoint(None, *[Kind.CONNECT] * (CONNECT_FAULTS_IN_A_ROW + 2))
    back: list[float] = []
    complete = Guard(clock, lambda _error, _seconds: None, lambda seconds, _: back.append(seconds)).wrap(
        endpoint.complete
    )
    assert await complete(REQUEST) is ANSWER
    await fail(complete, CONNECT_FAULTS_IN_A_ROW - 1)
    assert await complete(REQUEST) is ANSWER
    assert back == [2.0 + 4.0 + 8.0]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.TIMEOUT, Kind.DISCONNECTED, Kind.MALFORMED])
async def test_an_endpoint_that_never_answered_anybody_is_given_up(kind: Kind) -> None:
    """A hundred faults over a minute from the start, with nobody answered, stop the run before it fails every row."""
    clock, endpoint = FakeClock(), Endpoint(*[kind] * 1000)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    await fail(complete, alarm.NEVER_ANSWERED_FAULTS - 1)
    assert paused == []
    clock.time += alarm.NEVER_ANSWERED_S
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert guard.fault is not None


@pytest.mark.anyio
async def test_an_address_that_gives_pages_for_people_is_given_up_at_once() -> None:
    """A hundred HTML pages under HTTP 200, and no answer: it needs no minute to know that the address is wrong."""
    clock = FakeClock()
    guard, paused = guarded(clock)

    async def page(_request: Request) -> Answer:
        raise EndpointError(Kind.SERVER, "the answer is an HTML page: Welcome", status=200)

    complete = guard.wrap(page)
    await fail(complete, alarm.NEVER_ANSWERED_FAULTS - 1)
    assert paused == []
    with pytest.raises(Stopped):
        await complete(REQUEST)
    assert "OpenAI-compatible" in guard.message()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.SERVER, Kind.RATE_LIMITED, Kind.TIMEOUT])
async def test_an_outage_of_an_hour_is_waited_for(kind: Kind) -> None:
    """An endpoint that answered before may answer nobody for an hour; after two it is given up."""
    clock, endpoint = FakeClock(), Endpoint(None, *[kind] * 1000)
    guard, paused = guarded(clock)
    complete = guard.wrap(endpoint.complete)
    assert await complete(REQUEST) is ANSWER
    for _ in range(60):
        clock.time += 60.0
        await fail(complete, 3)
    assert paused == []
    clock.time += 3600.0
    with pytest.raises(Stopped):
        await complete(REQUEST)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (EndpointError(Kind.CREDENTIALS, "m"), "the variable RELAY_KEY ([endpoint] api_key_env"),
        (EndpointError(Kind.CREDIT, "m"), "top up the account"),
        (EndpointError(Kind.NOT_FOUND, "m"), "[endpoint] base_url and model"),
        (EndpointError(Kind.NOT_FOUND, "m", status=308), "set [endpoint] base_url to it"),
        (EndpointError(Kind.CONNECT, "m"), "check that the endpoint is up"),
        (EndpointError(Kind.BAD_REQUEST, "m", param="top_k"), "`top_k`: change it under [params]"),
        (EndpointError(Kind.SERVER, "m"), "answers nobody"),
        (EndpointError(Kind.SERVER, "m", status=200), "OpenAI-compatible"),
        (EndpointError(Kind.RATE_LIMITED, "m"), "requests_per_minute"),
        (EndpointError(Kind.MALFORMED, "m"), "OpenAI-compatible"),
    ],
    ids=lambda value: value.kind if isinstance(value, EndpointError) else "",
)
def test_the_message_names_the_mend(fault: EndpointError, says: str) -> None:
    """What stopped the run, what to change, and that nothing is lost, in one line."""
    guard = Guard(FakeClock(), lambda _error, _patience_s: None, key_env="RELAY_KEY")
    guard.fault = fault
    message = guard.message()
    assert message.startswith(f"stopped ({fault.kind}): m; ")
    assert says in message
    assert message.endswith("the same command goes on from here")


def test_without_a_name_the_key_is_the_default_one() -> None:
    """A job that names no variable used OPENAI_API_KEY."""
    guard = Guard(FakeClock(), lambda _error, _patience_s: None)
    guard.fault = EndpointError(Kind.CREDENTIALS, "m")
    assert "OPENAI_API_KEY" in guard.message()
