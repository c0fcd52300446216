"""The program as a process, and an endpoint that counts what it was asked."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Behaviour
from forks import Call
from served import Endpoints, patient_client
from terminals import Terminal


class Endpoint:
    """A running embedded endpoint."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self._client.get(self.url.removesuffix("/v1") + "/stats").json()
        return found

    @property
    def received(self) -> int:
        return self.stats()["received"]


@pytest.fixture(scope="session")
def serve(embedded: Endpoints) -> Callable[..., contextlib.AbstractContextManager[Endpoint]]:
    """`with serve(slots=4) as endpoint`: an embedded endpoint with a behaviour of its own."""

    @contextlib.contextmanager
    def serving(**behaviour: Any) -> Iterator[Endpoint]:
        with embedded.serving(Behaviour(**behaviour)) as url, patient_client() as client:
            yield Endpoint(url, client)

    return serving


@pytest.fixture(scope="module")
def endpoint(serve: Callable[..., Any]) -> Iterator[Endpoint]:
    """One endpoint for a whole file of tests, answering at once."""
    with serve() as running:
        yield running


class Job:
    """A run of `rows` against one endpoint, called again and again in its own folder."""

    def __init__(self, batchrun: Callable[..., Any], begin: Callable[..., Call], folder: Path, endpoint: Any) -> None:
        self.batchrun = batchrun
        self.begin = begin
        self.folder = folder
        self.endpoint = endpoint
        self.out = folder / "out"
        self.source = "rows.jsonl"

    def rows(self, numbers: Sequence[int]) -> None:
        """Write the input: one question for each number."""
        lines = [json.dumps({"number": n, "prompt": f"What is {n} + 1?"}) + "\n" for n in numbers]
        (self.folder / "rows.jsonl").write_text("".join(lines))

    def args(self, *flags: str) -> tuple[str, ...]:
        return ("run", self.source, "--model", "m", "--base-url", self.endpoint.url, "-o", "out", *flags)

    def run(self, *flags: str, code: int = 0, **more: Any) -> int:
        """Run to the end; the number of requests that the endpoint received for it."""
        before = self.endpoint.received
        self.process = self.batchrun(*self.args(*flags), cwd=self.folder, **more)
        assert self.process.returncode == code, self.process.stderr
        return int(self.endpoint.received - before)

    @contextlib.contextmanager
    def running(self, *flags: str, received: int, **more: Any) -> Iterator[Call]:
        """A run under way, once the endpoint has received so many requests of it."""
        target = self.endpoint.received + received
        process = self.begin(*self.args(*flags), cwd=self.folder, **more)
        try:
            self.until(process, target)
            yield process
        finally:
            process.kill()
            process.wait(timeout=30)

    def until(self, process: Call, target: int) -> None:
        """Wait until the endpoint has received so many requests in all; the run must live then."""
        deadline = time.monotonic() + 20
        while self.endpoint.received < target:
            assert process.poll() is None, "the run ended too early"
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)

    def results(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.out / "results.parquet").to_pylist()
        return found

    def assert_answers(self, numbers: Sequence[int]) -> None:
        """Every row once, in input order, with the answer to its own question."""
        found = [(one["row"], one["number"], one["completion"]) for one in self.results()]
        assert found == [(row, n, str(n + 1)) for row, n in enumerate(numbers)]

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.batchrun("status", self.out, "--json").stdout)
        return shown


@pytest.fixture(scope="session")
def job_in(batchrun: Callable[..., Any], begin: Callable[..., Call]) -> Callable[[Path, Endpoint], Job]:
    """A job in a folder, against an endpoint."""
    return lambda folder, endpoint: Job(batchrun, begin, folder, endpoint)


@pytest.fixture
def start(job_in: Callable[..., Job], serve: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """`start(**behaviour)` makes a job with an endpoint of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda **behaviour: job_in(tmp_path, stack.enter_context(serve(**behaviour)))


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """`terminal(program(line, cwd=…, env=…))` starts a program on a terminal of its own."""
    with contextlib.ExitStack() as stack:

        def begin(start: Callable[[Terminal], Any]) -> Terminal:
            made = Terminal(start)
            stack.callback(made.process.wait)
            stack.callback(made.process.kill)
            stack.callback(made.close)
            return made

        yield begin


@pytest.fixture
def on_terminal(begin: Callable[..., Call], terminal: Callable[..., Terminal]) -> Callable[..., Terminal]:
    """`on_terminal(*args, cwd=…)` starts a call of batchrun there, in a fork."""
    return lambda *args, cwd: terminal(lambda on: begin(*args, cwd=cwd, session=True, terminal=on.name))
