"""Virtual time: a time that only sleepers move, for tests of many tasks, up to a whole run of a job.

`FakeClock` is for code that is handed a clock and sleeps by nothing else. `VirtualLoop` is for everything else: on it all
that waits, waits in virtual time, deadlines and `anyio.current_time()` included. `arun_virtually` runs a whole job on one,
against an endpoint that is a function.
"""

import asyncio
import dataclasses
import heapq
import itertools
import json
import random
import selectors
import signal
import unittest.mock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx

import batchrun
from batchrun.clock import SystemClock
from batchrun.events import Done, Event
from batchrun.runner import control
from batchrun.runner.outcome import Outcome

BEGIN = 100.0
"""The time at which a virtual clock begins."""
EPOCH = 1_767_225_600.0
"""What an epoch clock says at the beginning of a virtual run: 2026-01-01 00:00:00 UTC."""
LOOK_EVERY_S = 15.0
"""How often a virtual run looks for orders, which come from elsewhere: each look is a thread, and an hour has many seconds."""
THREAD_S = 60.0
"""How long a worker thread may really work before the test is called hung."""


class _Sleeper(NamedTuple):
    until: float
    number: int
    """Among those that wake at one time the first that went to sleep wakes first."""
    is_first: anyio.Event


class FakeClock:
    """Virtual time for many tasks: when all sleep, the earliest wakes and time is its own."""

    def __init__(self) -> None:
        self.time = BEGIN
        self._sleepers: list[_Sleeper] = []
        self._order = itertools.count()
        self._stirs = 0

    def now(self) -> float:
        return self.time

    def epoch(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        mine = _Sleeper(self.time + seconds, next(self._order), anyio.Event())
        heapq.heappush(self._sleepers, mine)
        self._stirs += 1
        try:
            await self._until_all_sleep(mine)
            self.time = max(self.time, mine.until)
        finally:
            self._sleepers.remove(mine)
            heapq.heapify(self._sleepers)
            self._stirs += 1
            if self._sleepers:
                self._sleepers[0].is_first.set()

    async def _until_all_sleep(self, mine: _Sleeper) -> None:
        """Return when nobody else runs, and `mine` is the earliest: it alone looks, the others wait for their turn."""
        while True:
            if self._sleepers[0] is not mine:
                await mine.is_first.wait()
            stirs = self._stirs
            for _ in range(8):  # whoever is awake goes first
                await anyio.lowlevel.checkpoint()
            if self._stirs == stirs and self._sleepers[0] is mine:
                return


class _Selector(selectors.DefaultSelector):
    """Waits for nothing but threads at work: where nothing is ready, time is that of the next timer."""

    now = BEGIN
    threads: anyio.CapacityLimiter | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.threads is not None and self.threads.borrowed_tokens:
            # a thread takes no virtual time: time stands still until it says, through the loop's own pipe, that it is done
            ready = super().select(THREAD_S)
            assert ready, "a worker thread hangs"
            return ready
        assert timeout is not None, "nobody sleeps and nobody runs: they wait for each other"
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, for long stories of many tasks: an hour takes as long as what happens in it.

    Threads of `anyio.to_thread` may be used, and take no time; sockets may not, since time would not wait for them.
    """

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def run_forever(self) -> None:
        if self._virtual.threads is None:
            self.create_task(self._find_threads())
        super().run_forever()

    async def _find_threads(self) -> None:
        self._virtual.threads = anyio.to_thread.current_default_thread_limiter()


class LoopClock:
    """The clock of a VirtualLoop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def epoch(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Said(NamedTuple):
    """What a scripted endpoint does with one request, `after_s` seconds later.

    `what` is the text of a good answer; the status of a refusal; a whole httpx.Response; an exception of the transport's
    kind, such as httpx.ConnectError("refused"); or None for an endpoint that never says anything.
    """

    what: str | int | httpx.Response | Exception | None
    after_s: float


Endpoint = Callable[[dict[str, Any], float], "Said | str | int | httpx.Response | Exception | None"]
"""(request body, seconds since the run began) → what is said. Without a Said an answer takes two seconds, a fault a tenth."""


def prompt_of(body: dict[str, Any]) -> str:
    """The text of a chat's last message, or what else is asked."""
    return str(body["messages"][-1]["content"] if "messages" in body else body.get("prompt") or body.get("input"))


@dataclasses.dataclass(slots=True)
class Asked:
    """One request as it reached the endpoint. `prompt` is the text of its last message, `at` seconds of the run; `status`
    is what it was answered with, None where no answer came.
    """

    at: float
    prompt: str
    status: int | None = None


class Scripted(httpx.AsyncBaseTransport):
    """A transport whose other end is a function of a request's body and the time, or another transport."""

    def __init__(self, endpoint: Endpoint | httpx.AsyncBaseTransport) -> None:
        self._endpoint = endpoint
        self._begin = asyncio.get_running_loop().time()
        self._number = itertools.count()
        self.asked: list[Asked] = []
        self.in_flight = self.most_in_flight = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked = Asked(asyncio.get_running_loop().time() - self._begin, prompt_of(body))
        self.asked.append(asked)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if isinstance(self._endpoint, httpx.AsyncBaseTransport):
                response = await self._endpoint.handle_async_request(request)
            else:
                response = await self._scripted(body, self._endpoint(body, asked.at))
        finally:
            self.in_flight -= 1
        asked.status = response.status_code
        return response

    async def _scripted(self, body: dict[str, Any], said: Any) -> httpx.Response:
        if not isinstance(said, Said):
            said = Said(said, 2.0 if isinstance(said, str) else 0.1)
        await (anyio.sleep_forever() if said.what is None else anyio.sleep(said.after_s))
        if isinstance(said.what, Exception):
            raise said.what
        return said.what if isinstance(said.what, httpx.Response) else self._response(body, said.what)

    def _response(self, body: dict[str, Any], what: str | int | None) -> httpx.Response:
        if isinstance(what, int):
            error = {"message": f"scripted {what}", "type": "scripted_error", "param": None, "code": None}
            return httpx.Response(what, json={"error": error})
        message = {"role": "assistant", "content": what}
        return httpx.Response(
            200,
            json={
                "id": f"chatcmpl-{next(self._number)}",
                "object": "chat.completion",
                "created": int(EPOCH),
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            },
        )


class Recorder:
    """A listener that keeps every event with the second of the run in which it came."""

    def __init__(self) -> None:
        self._begin = asyncio.get_running_loop().time()
        self.events: list[tuple[float, Event]] = []

    def hear(self, event: Event) -> None:
        self.events.append((asyncio.get_running_loop().time() - self._begin, event))


class Story(NamedTuple):
    """A run that was told to its end. `seconds` of virtual time went by, `heard` is what its listener was told (without
    results), `notes` its messages, `asked` every request that reached the endpoint, in order.
    """

    outcome: Outcome
    seconds: float
    asked: list[Asked]
    most_in_flight: int
    heard: list[tuple[float, Event]]
    notes: list[str]

    def asked_between(self, begin: float, end: float) -> int:
        return sum(begin <= one.at < end for one in self.asked)

    def counts(self) -> tuple[int, int]:
        """(ok, failed)"""
        return self.outcome.ok, self.outcome.failed


def arun_virtually(
    job: batchrun.Job,
    endpoint: Endpoint | httpx.AsyncBaseTransport,
    *,
    signals: Mapping[float, signal.Signals] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Story:
    """Run the whole of `batchrun.arun` in virtual time, from its input to its results on the disk.

    `endpoint` may also be a transport that waits by the loop's time, such as `httpx.ASGITransport` with the embedded endpoint.
    `signals` are sent to the run at seconds of it. `settings` go to `arun` (`retry_failed=True`). `seed` is that of every
    jitter: the same story is told the same way again. To be called outside of an event loop, from the main thread where
    there are signals.
    """

    async def send(at: float, one: signal.Signals) -> None:
        await anyio.sleep(at)
        signal.raise_signal(one)

    async def tell() -> Story:
        loop = asyncio.get_running_loop()
        begin, notes, told = loop.time(), list[str](), Recorder()
        transport = Scripted(endpoint)

        def epoch(_clock: SystemClock) -> float:
            return EPOCH + loop.time() - begin

        with (
            unittest.mock.patch.object(SystemClock, "epoch", epoch),
            unittest.mock.patch.object(control, "_LOOK_EVERY_S", LOOK_EVERY_S),
        ):
            async with anyio.create_task_group() as tasks:
                for at, one in (signals or {}).items():
                    tasks.start_soon(send, at, one)
                outcome = await batchrun.arun(
                    job,
                    transport=transport,
                    environ={},
                    listener=lambda _requests, _prices: told.hear,
                    on_note=notes.append,
                    signals=bool(signals),
                    **settings,
                )
                tasks.cancel_scope.cancel()
        heard = [one for one in told.events if not isinstance(one[1], Done)]
        return Story(outcome, loop.time() - begin, transport.asked, transport.most_in_flight, heard, notes)

    before = random.getstate()
    random.seed(seed)
    try:
        return anyio.run(tell, backend_options={"loop_factory": VirtualLoop})
    finally:
        random.setstate(before)


def job_of(folder: Path, rows: int | Sequence[str], *, concurrency: int = 8, **tables: Any) -> batchrun.Job:
    """A job of these prompts, or of so many rows whose prompts are their numbers, with its input and its run in `folder`.
    `tables` are more of the job's (`retry={"max_attempts": 2}`, `limits={…}`).
    """
    source = folder / "rows.jsonl"
    prompts = [str(row) for row in range(rows)] if isinstance(rows, int) else rows
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    limits = {"concurrency": concurrency, **tables.pop("limits", {})}
    return batchrun.Job(
        input={"path": str(source)},
        endpoint={"base_url": "http://endpoint.test/v1", "model": "m"},
        limits=limits,
        output={"path": str(folder / "run")},
        **tables,
    )
