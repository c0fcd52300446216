"""The program as a process, and an endpoint that counts what it was asked."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Behaviour, embedded_endpoint

ROOT = Path(__file__).resolve().parents[2]


class Endpoint:
    """A running embedded endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(self.url.removesuffix("/v1") + "/stats", trust_env=False).json()
        return found

    @property
    def received(self) -> int:
        return self.stats()["received"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anybody's key, in which the package under test is found from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


@pytest.fixture(scope="session")
def command() -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The argument list and the environment of one call, for tests that start the process themselves."""

    def build(*args: object, env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "batchrun", *map(str, args)], environment(env)

    return build


@pytest.fixture(scope="session")
def batchrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run `batchrun ARGS…` to its end, from the repository's root unless `cwd` says otherwise: in a fork of a warm process,
    which is a process like any other. (`command` starts one from nothing.) `out` and `err` are places for its output, and
    `more` what else warm.py knows of.
    """
    folder = tmp_path_factory.mktemp("said")
    said_out, said_err = folder / "out", folder / "err"
    line = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(
        line, env=environment(), cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as warm:
        assert warm.stdin is not None
        assert warm.stdout is not None

        def call(
            *args: object,
            env: Mapping[str, str] | None = None,
            cwd: Path | None = None,
            out: str | None = str(said_out),
            err: str | None = str(said_err),
            **more: Any,
        ) -> subprocess.CompletedProcess[str]:
            words = [str(arg) for arg in args]
            said_out.write_bytes(b"")
            said_err.write_bytes(b"")
            order = {"args": words, "cwd": str(cwd or ROOT), "env": environment(env), "out": out, "err": err, **more}
            warm.stdin.write(json.dumps(order) + "\n")
            warm.stdin.flush()
            code = int(warm.stdout.readline())
            return subprocess.CompletedProcess(
                ["batchrun", *words], code, said_out.read_text(errors="replace"), said_err.read_text(errors="replace")
            )

        yield call
        warm.stdin.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Endpoint]]:
    """`with serve(slots=4) as endpoint`: an embedded endpoint with a behaviour of its own."""

    @contextlib.contextmanager
    def serving(**behaviour: Any) -> Iterator[Endpoint]:
        with embedded_endpoint(Behaviour(**behaviour)) as url:
            yield Endpoint(url)

    return serving


@pytest.fixture(scope="module")
def endpoint(serve: Callable[..., Any]) -> Iterator[Endpoint]:
    """One endpoint for a whole file of tests, answering at once."""
    with serve() as running:
        yield running


class Job:
    """A run of `rows` against one endpoint, called again and again in its own folder."""

    def __init__(self, batchrun: Callable[..., Any], command: Callable[..., Any], folder: Path, endpoint: Any) -> None:
        self.batchrun = batchrun
        self._command = command
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

    def run(self, *flags: str, code: int = 0, env: dict[str, str] | None = None) -> int:
        """Run to the end; the number of requests that the endpoint received for it."""
        before = self.endpoint.received
        self.process = self.batchrun(*self.args(*flags), cwd=self.folder, env=env)
        assert self.process.returncode == code, self.process.stderr
        return int(self.endpoint.received - before)

    @contextlib.contextmanager
    def running(self, *flags: str, received: int) -> Iterator["subprocess.Popen[str]"]:
        """A run under way, once the endpoint has received so many requests of it."""
        line, environ = self._command(*self.args(*flags))
        target = self.endpoint.received + received
        with subprocess.Popen(
            line, env=environ, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                deadline = time.monotonic() + 20
                while self.endpoint.received < target:
                    assert process.poll() is None, "the run ended too early"
                    assert time.monotonic() < deadline, "the run does not get on"
                    time.sleep(0.01)
                yield process
            finally:
                process.kill()

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
def job_in(batchrun: Callable[..., Any], command: Callable[..., Any]) -> Callable[[Path, Endpoint], Job]:
    """A job in a folder, against an endpoint."""
    return lambda folder, endpoint: Job(batchrun, command, folder, endpoint)


@pytest.fixture
def start(job_in: Callable[..., Job], serve: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """`start(**behaviour)` makes a job with an endpoint of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda **behaviour: job_in(tmp_path, stack.enter_context(serve(**behaviour)))
