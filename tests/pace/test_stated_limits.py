"""Limits of requests and tokens, stated by the user or learnt from the endpoint, against providers that count in their
several ways (contract.md §7.5, endpoint.md §5).
"""

import functools
import random

import anyio
import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Dropped, Event, Learnt, Paused
from batchrun.pace.limits import Limits
from batchrun.pace.meters import Meters
from batchrun.records import Answer, Request, StatedLimit, Usage
from batchrun.sections import Retry
from virtual import FakeClock

from .providers import Evenly, Provider, Windowed
from .run import gated, retrying

BODY = b'{"messages":[{"content":"' + b"word " * 34 + b'","role":"user"}],"model":"m"}'


def request(number: int = 0, body: bytes = BODY, model: str = "m") -> Request:
    return Request(number, str(number), "default", 0, body, f"h{number}", model)


class Told:
    """Hears of limits that are learnt."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.limits: list[dict[str, float]] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, Learnt):
            self.models.append(event.model)
            self.limits.append(event.limits)


async def ask(limits: Limits, provider: Provider, requests: list[Request]) -> None:
    """Ask them all, as a run does: some more than the places there are, again after each refusal."""
    complete = retrying(limits.wrap(provider.complete), Retry(), provider.clock)
    left = iter(requests)

    async def work() -> None:
        for one in left:
            await complete(one)

    async with anyio.create_task_group() as group:
        for _ in range(24):
            group.start_soon(work)


def rate(provider: Provider, since_s: float = 0.0) -> float:
    """Requests a minute that were admitted, after the first `since_s`."""
    starts = sorted(at for at, _ in provider.starts if at >= 100.0 + since_s)
    return (len(starts) - 1) / (starts[-1] - starts[0]) * 60


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Evenly, Windowed])
@pytest.mark.parametrize("per_minute", [40, 120, 300])
async def test_the_limit_of_requests_is_learnt(kind: type[Evenly | Windowed], per_minute: int) -> None:
    """What the headers state is kept: few more refusals than the first moment brings, and most of the limit is used,
    whichever way the endpoint counts.
    """
    clock = FakeClock()
    provider = Provider(clock, {"requests": kind(per_minute)})
    limits = Limits(16, None, clock)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(4 * per_minute)])
    assert provider.refused <= 24
    assert rate(provider, since_s=60) >= 0.9 * per_minute


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Evenly, Windowed])
@pytest.mark.parametrize("bounded", [True, False])
async def test_the_limit_of_tokens_is_learnt(kind: type[Evenly | Windowed], bounded: bool) -> None:
    """Tokens too, where the endpoint charges the prompt and `max_tokens` at first, and gives back what was not used."""
    clock = FakeClock()
    provider = Provider(clock, {"tokens": kind(20_000)}, charge=lambda _request: 50 + (500 if bounded else 20))
    limits = Limits(16, None, clock, bound=lambda _request: 500 if bounded else None)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(1000)])
    assert provider.refused <= 24
    assert rate(provider, since_s=60) >= 0.9 * 20_000 / 70


@pytest.mark.anyio
async def test_a_limit_that_others_use_too_is_shared() -> None:
    """Where somebody else takes half of the limit, the rest of it is kept without running into it again and again."""
    clock = FakeClock()
    provider = Provider(clock, {"requests": Evenly(300)})
    limits = Limits(16, None, clock)
    provider.hear = functools.partial(limits.learn, "m")

    async def somebody_else() -> None:
        while True:
            await clock.sleep(0.4)
            provider.counters["requests"].take(1)

    async with anyio.create_task_group() as group:
        group.start_soon(somebody_else)
        await ask(limits, provider, [request(number) for number in range(600)])
        group.cancel_scope.cancel()
    assert provider.refused <= 12
    assert rate(provider, since_s=60) >= 0.8 * 150


@pytest.mark.anyio
@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_a_limit_of_a_day_is_none_of_a_minute(unit: str) -> None:
    """A limit that is renewed over a day (Groq's requests, OpenAI's tokens of a day) slows nothing: its name alone would
    make it one of a minute.
    """
    clock = FakeClock()
    provider = Provider(clock, {unit: Evenly(14_400, 86_400.0)}, usage=lambda _request: Usage(5, 5, 10))
    told = Told()
    limits = Limits(16, None, clock, hear=told.hear)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(1000)])
    assert rate(provider) >= 0.95 * 16 / 0.5 * 60
    assert (provider.refused, told.limits) == (0, [])


SAID = [
    (StatedLimit("requests", 14400, 14370, 179.56), False, "Groq's documented requests of a day"),
    (StatedLimit("tokens", 18000, 17997, 0.01), True, "Groq's tokens of a minute"),
    (StatedLimit("tokens", 1_500_000, 1_495_621, 252.172), False, "OpenAI's tokens of a day"),
    (StatedLimit("requests", 500, 499, 0.12), True, "OpenAI's requests of a minute"),
    (StatedLimit("requests", 10000, 9999, 8.64), False, "OpenAI's requests of a day"),
    (StatedLimit("requests", 720, 717, None, 60.0), True, "Mistral's requests, a minute by their name"),
    (StatedLimit("requests", 720, 717, None), True, "no word of a reset: a minute is what all of them mean"),
    (StatedLimit("requests", 1000, 990, None, 86400.0), False, "Cerebras's requests of a day, by their name"),
    (StatedLimit("tokens", 100, None, 30.0), True, "what remains is not said"),
    (StatedLimit("tokens", 100, None, 3000.0), False, "the same, and an hour to go"),
    (StatedLimit("requests", 20000, 19999, 3.0, 60.0), True, "GitHub's requests, their period is said"),
    (StatedLimit("tokens", 20000, 10000, 0.0), False, "no time at all: that tells nothing"),
    (StatedLimit("requests", 60, 60, 0.0), False, "nothing used: it can't be told yet"),
]


@pytest.mark.parametrize(
    ("stated", "kept"), [(stated, kept) for stated, kept, _ in SAID], ids=[why for *_, why in SAID]
)
def test_which_limits_are_of_a_minute(stated: StatedLimit, kept: bool) -> None:
    """Only a limit that is counted by the minute is kept; its name or its numbers tell."""
    told = Told()
    Limits(1, None, FakeClock(), hear=told.hear).learn("m", [stated])
    assert told.limits == ([{stated.unit: stated.limit}] if kept else [])


def test_a_limit_of_a_second_is_kept() -> None:
    """A limit of less than a minute is one of a minute too, so many times as large."""
    told = Told()
    Limits(1, None, FakeClock(), hear=told.hear).learn("m", [StatedLimit("requests", 2, 1, None, 1.0)])
    assert told.limits == [{"requests": 120}]


def test_a_limit_is_told_once_and_only_where_it_matters() -> None:
    """A limit above what the user allows is not told of; one below is, once, however often it is stated."""
    told = Told()
    limits = Limits(1, 100, FakeClock(), hear=told.hear)
    for _ in range(3):
        limits.learn("m", [StatedLimit("requests", 500, 499, 0.12), StatedLimit("tokens", 1000, 900, 6.0)])
    assert told.limits == [{"tokens": 1000}]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Evenly, Windowed])
@pytest.mark.parametrize("per_second", [20, 100])
async def test_a_limit_of_a_second_is_told_by_its_numbers(kind: type[Evenly | Windowed], per_second: int) -> None:
    """Twenty a second, without a word of the second, are not kept as twenty a minute."""
    clock, told = FakeClock(), Told()
    provider = Provider(clock, {"requests": kind(per_second, 1.0)})
    limits = Limits(16, None, clock, hear=told.hear)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(900)])
    assert rate(provider, since_s=10) >= 0.9 * min(per_second, 32) * 60
    assert told.limits[-1:] == [{"requests": 60 * per_second}]


STUCK = [
    (StatedLimit("requests", 10_000, 0, 60.0), "nothing is left, for ever"),
    (StatedLimit("tokens", 100_000, 7, 60.0), "little is left, for ever"),
    (StatedLimit("requests", 60, 30, 60.0), "half is left, and neither number moves"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("stated", [stated for stated, _ in STUCK], ids=[why for _, why in STUCK])
async def test_a_counter_that_stands_still_throttles_nobody(stated: StatedLimit) -> None:
    """It is believed for some answers beyond those in flight, then its limit is dropped, and that is said once."""
    clock, heard = FakeClock(), list[Event]()
    provider = Provider(clock, {})
    limits = Limits(16, None, clock, bound=lambda _request: 20, hear=heard.append)
    provider.tell = lambda: limits.learn("m", [stated])  # type: ignore[method-assign]
    begin = clock.now()
    await ask(limits, provider, [request(number) for number in range(1600)])
    assert clock.now() - begin <= 2 * 1600 * 0.5 / 16
    assert [one for one in heard if isinstance(one, Dropped)] == [Dropped("m", [stated.unit])]


@pytest.mark.anyio
async def test_a_limit_that_was_dropped_is_kept_again_after_a_refusal() -> None:
    """The counter stood still, and yet the endpoint refuses: then what it states counts, and is doubted later."""
    clock = FakeClock()
    meters = Meters(None, None, lambda _request: None, clock)
    stated = StatedLimit("requests", 600, 0, 60.0)
    answers = []
    for _ in range(2):
        count = 0
        while not meters.learn("m", [stated]).dropped:
            count += 1
        answers.append(count)
        assert not meters.active
        meters.believe()
    meters.learn("m", [stated])
    assert meters.active
    assert answers[1] >= 1.5 * answers[0]


@pytest.mark.anyio
@pytest.mark.parametrize("places", [16, 64])
async def test_what_went_out_before_a_limit_was_known_is_charged(places: int) -> None:
    """A counter that starts again each minute (LiteLLM) has counted the first burst: no refusal follows, and no minute is
    lost.
    """
    clock = FakeClock()
    provider = Provider(clock, {"requests": Windowed(300)})
    limits = Limits(places, None, clock)
    provider.hear = functools.partial(limits.learn, "m")
    complete = limits.wrap(provider.complete)
    left = iter([request(number) for number in range(450)])
    begin = clock.now()

    async def work() -> None:
        for one in left:
            await complete(one)

    async with anyio.create_task_group() as group:
        for _ in range(places + 8):
            group.start_soon(work)
    assert provider.refused == 0
    assert clock.now() - begin <= 93.0


@pytest.mark.anyio
async def test_every_scope_of_a_limit_is_kept() -> None:
    """Of a limit of the key and one of the team the tighter one rules, whichever is named first; it alone is told."""
    for limits_of in ([("api_key", 600), ("team", 60)], [("", 60), ("team", 600)]):
        clock = FakeClock()
        provider = Provider(clock, {})
        told = Told()
        limits = Limits(16, None, clock, hear=told.hear)
        limits.learn("m", [StatedLimit("requests", limit, scope=scope) for scope, limit in limits_of])
        await ask(limits, provider, [request(number) for number in range(30)])
        assert rate(provider) == pytest.approx(60, rel=0.02)
        assert told.limits == [{"requests": 60}]


@pytest.mark.anyio
async def test_each_model_has_its_own_limits() -> None:
    """A limit that an answer of one model states slows that model alone; one of the key slows them all."""
    for scope, at_the_end in (("", 20.0), ("model_per_key", 20.0), ("api_key", 79.0)):
        clock = FakeClock()
        provider = Provider(clock, {})
        told = Told()
        limits = Limits(64, None, clock, hear=told.hear)
        limits.learn("slow", [StatedLimit("requests", 60, scope=scope)])
        await ask(limits, provider, [request(number, model="fast" if number % 4 else "slow") for number in range(80)])
        assert max(at for at, _ in provider.starts) - 100.0 == pytest.approx(at_the_end, abs=1.5)
        assert (told.models, told.limits) == (["slow"], [{"requests": 60}])


@pytest.mark.anyio
@pytest.mark.parametrize("swapped", [False, True])
async def test_a_limit_of_a_day_beside_one_of_a_minute(swapped: bool) -> None:
    """Where both are stated (Cerebras), that of the day takes nothing from that of the minute, in any order."""
    clock = FakeClock()
    provider = Provider(clock, {})
    limits = Limits(16, None, clock)
    both = [StatedLimit("requests", 60, 59, None, 60.0), StatedLimit("requests", 14_400, 14_399, 3600.0, 86_400.0)]
    limits.learn("m", both[::-1] if swapped else both)
    await ask(limits, provider, [request(number) for number in range(30)])
    assert rate(provider) == pytest.approx(60, rel=0.02)


@pytest.mark.anyio
async def test_limits_without_end_fill_no_memory_and_slow_nobody_else() -> None:
    """An endpoint that names its limits again with each answer, and makes them ever tighter: past a good number of them no
    more is kept, least of all for a model that it doesn't concern.
    """
    clock = FakeClock()
    limits = Limits(16, None, clock)
    for number in range(1000):
        limits.learn(f"m{number}", [StatedLimit("requests", 1001 - number)])
    assert len(limits._meters._all) <= 64
    provider = Provider(clock, {}, takes_s=0.0)
    await ask(limits, provider, [request(number, model="another") for number in range(30)])
    assert {at for at, _ in provider.starts} == {100.0}


@pytest.mark.anyio
async def test_what_the_user_allows_is_never_raised() -> None:
    """An endpoint that states more than the user allows changes nothing."""
    clock = FakeClock()
    provider = Provider(clock, {"requests": Evenly(6000)})
    limits = Limits(16, 60, clock)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(60)])
    assert 0.98 * 60 <= rate(provider) <= 60


@pytest.mark.anyio
@pytest.mark.parametrize("bound", [None, 50, 2000])
@pytest.mark.parametrize("takes_s", [0.2, 8.0])
async def test_tokens_a_minute_are_kept_and_used(bound: int | None, takes_s: float) -> None:
    """No minute takes more tokens than the user allows, and nearly all of them are used: with answers of any length,
    bounded or not, quick or slow. (Those in flight count with the longest answer, so slow ones leave a little unused.)
    """
    dice = random.Random(7)
    clock = FakeClock()
    sizes = {number: dice.choice([5, 20, 45, 50]) for number in range(400)}
    provider = Provider(clock, {}, usage=lambda one: Usage(50, sizes[one.row], 50 + sizes[one.row]), takes_s=takes_s)
    limits = Limits(32, None, clock, tokens_per_minute=10_000, bound=lambda _request: bound)
    await ask(limits, provider, [request(number) for number in range(400)])
    assert provider.most_in_a_minute() <= 10_000
    took = sum(total for at, total in provider.starts if at >= 160.0)
    assert took / (max(at for at, _ in provider.starts) - 160.0) * 60 >= (0.95 if takes_s < 1 else 0.9) * 10_000


@pytest.mark.anyio
@pytest.mark.parametrize("bound", [None, 2000])
async def test_tokens_are_kept_where_short_answers_come_first(bound: int | None) -> None:
    """Where three answers in ten are two hundred times as long and slow, and the short ones are there first, no minute
    takes more than is allowed all the same.
    """
    dice = random.Random(3)
    sizes = {number: 2000 if dice.random() < 0.3 else 10 for number in range(200)}
    clock = FakeClock()
    provider = Provider(clock, {}, usage=lambda one: Usage(50, sizes[one.row], 50 + sizes[one.row]))

    async def complete(asked: Request) -> Answer:
        answer = await provider.complete(asked)
        await clock.sleep(sizes[asked.row] / 50)
        return answer

    wrapped = Limits(64, None, clock, tokens_per_minute=30_000, bound=lambda _request: bound).wrap(complete)
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(wrapped, request(number))
    assert provider.most_in_a_minute() <= 30_000 * 1.01


@pytest.mark.anyio
async def test_both_limits_hold_at_once() -> None:
    """Of a limit of requests and one of tokens the tighter one rules."""
    for rpm, tpm, least, most in ((60, 1e6, 58, 60), (6000, 7000, 95, 102)):
        clock = FakeClock()
        provider = Provider(clock, {})
        await ask(Limits(16, rpm, clock, tokens_per_minute=tpm), provider, [request(number) for number in range(300)])
        assert least <= rate(provider, since_s=30) <= most


@pytest.mark.anyio
async def test_a_request_larger_than_the_whole_limit_fails_at_once() -> None:
    """A request that no minute has room for is refused without being sent, says so, and holds back nobody."""
    clock = FakeClock()
    provider = Provider(clock, {})
    limits = Limits(4, None, clock, tokens_per_minute=1000, bound=lambda one: 4000 if one.row == 1 else 100)
    complete = limits.wrap(provider.complete)
    for large in (request(1), request(2, b"x" * 8000)):
        with pytest.raises(EndpointError, match=r"larger than the whole limit.*tokens_per_minute is 1000") as caught:
            await complete(large)
        assert caught.value.kind is Kind.BAD_REQUEST
    await complete(request(3))
    assert [at for at, _ in provider.starts] == [100.0]


@pytest.mark.anyio
@pytest.mark.parametrize(("limit", "tokens"), [(6_000, 2_500), (6_000, 5_000), (8_000, 4_836)])
async def test_a_request_that_takes_most_of_a_minute_does_not_crawl(limit: int, tokens: int) -> None:
    """Where little of the limit is left, nobody waits for longer than until all of it is renewed."""
    clock = FakeClock()
    usage = Usage(tokens - 100, 100, tokens)
    provider = Provider(clock, {"tokens": Evenly(limit)}, usage=lambda _request: usage)
    limits = Limits(16, None, clock, bound=lambda _request: 100)
    provider.hear = functools.partial(limits.learn, "m")
    body = b"x" * (4 * (tokens - 100))
    await ask(limits, provider, [request(number, body) for number in range(15)])
    ideal_s = (15 * tokens - limit) / limit * 60
    assert max(at for at, _ in provider.starts) - 100.0 <= 1.35 * ideal_s


@pytest.mark.anyio
@pytest.mark.parametrize("per_minute", [3, 5])
async def test_a_limit_of_a_few_requests_does_not_crawl(per_minute: int) -> None:
    """Three requests a minute are three requests a minute, also after the first moment has used them up."""
    clock = FakeClock()
    provider = Provider(clock, {"requests": Evenly(per_minute)})
    limits = Limits(16, None, clock)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(4 * per_minute)])
    assert max(at for at, _ in provider.starts) - 100.0 <= 1.35 * 180.0


class LastMinute(Evenly):
    """A counter of what was taken in the last 60 s: all of it is always renewed in about a minute."""

    def __init__(self, limit: float) -> None:
        super().__init__(limit)
        self._log: list[float] = []

    def look(self, now: float) -> tuple[float, float]:
        self._log = [at for at in self._log if at > now - 60.0]
        self._then = now
        return self.limit - len(self._log), self._log[-1] + 60.0 - now if self._log else 0.0

    def wait_s(self, units: float, now: float) -> float:
        left, _ = self.look(now)
        return 0.0 if left >= units else self._log[0] + 60.0 - now

    def take(self, units: float) -> None:
        self._log.append(self._then)


@pytest.mark.anyio
async def test_a_counter_that_looks_back_over_a_minute_is_used() -> None:
    """Also where the headers always say that all is renewed in a minute, most of the limit is used."""
    clock = FakeClock()
    provider = Provider(clock, {"requests": LastMinute(120)})
    limits = Limits(16, None, clock)
    provider.hear = functools.partial(limits.learn, "m")
    await ask(limits, provider, [request(number) for number in range(500)])
    assert rate(provider, since_s=60) >= 0.7 * 120
    assert provider.refused <= 20


def test_a_day_that_ends_soon_is_taken_for_a_minute_only_until_it_has_ended() -> None:
    """Near midnight a limit of a day looks like one of a minute; when it states a longer time again, it slows nothing."""
    limits = Limits(1, None, FakeClock())
    limits.learn("m", [StatedLimit("requests", 20_000, 5_000, 50.0)])
    assert limits._meters.active
    limits.learn("m", [StatedLimit("requests", 20_000, 19_900, 3600.0)])
    assert not limits._meters.active


@pytest.mark.anyio
async def test_who_waits_for_its_turn_leaves_when_the_gate_closes() -> None:
    """At a slow rate the probe goes first: those that waited before it are sent back, and take nothing of the limit."""
    clock = FakeClock()
    paused_at: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, Paused):
            paused_at.append(clock.now())

    gate, health = gated(clock, hear)
    limits = Limits(16, 6, clock, check=gate.check)
    asked_at: list[float] = []

    async def wrong_key_once(_request: Request) -> Answer:
        asked_at.append(clock.now())
        await clock.sleep(0.5)
        if len(asked_at) == 3:
            raise EndpointError(Kind.CREDENTIALS, "no")
        return Answer("x", Usage(1, 1, 2))

    complete = gate.wrap(limits.wrap(health.watched(wrong_key_once)))
    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(complete, request(number))
    assert len(asked_at) == 16 + 1
    assert asked_at[3] - paused_at[0] <= 10.0 + 2.0


@pytest.mark.anyio
async def test_an_estimated_usage_settles_no_prompt() -> None:
    """Where the endpoint reports no usage, what was estimated of the prompt stands: nothing else is known of it."""
    clock = FakeClock()
    guessed = Usage(80_000, 20, 80_020, source="estimated")
    provider = Provider(clock, {}, usage=lambda _request: guessed, takes_s=0.0)
    limits = Limits(1, None, clock, tokens_per_minute=20_000, bound=lambda _request: 20)
    complete = limits.wrap(provider.complete)
    for number in range(3):
        await complete(request(number))
    assert max(at for at, _ in provider.starts) - 100.0 < 1.0


@pytest.mark.anyio
async def test_what_the_endpoint_states_refuses_nothing() -> None:
    """Whether a request fits into the endpoint's own limit is the endpoint's word: it is sent, and paced."""
    clock = FakeClock()
    provider = Provider(clock, {})
    limits = Limits(4, None, clock, bound=lambda _one: 4000)
    limits.learn("m", [StatedLimit("tokens", 1000, 1000, None)])
    await limits.wrap(provider.complete)(request())
    assert len(provider.starts) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("unconfirmed", "second_at"), [(True, 13.11), (False, 0.0)])
async def test_a_lost_answer_may_have_used_its_tokens(unconfirmed: bool, second_at: float) -> None:
    """An attempt that was refused gives its tokens back at once; one whose answer was lost keeps them."""
    clock = FakeClock()

    async def fail(_request: Request) -> Answer:
        raise EndpointError(Kind.DISCONNECTED if unconfirmed else Kind.SERVER, "no", unconfirmed=unconfirmed)

    limits = Limits(4, None, clock, tokens_per_minute=1000, bound=lambda _one: 158)
    with pytest.raises(EndpointError):
        await limits.wrap(fail)(request())
    provider = Provider(clock, {})
    await limits.wrap(provider.complete)(request())
    assert provider.starts[0][0] - 100.0 == pytest.approx(second_at, abs=0.2)
