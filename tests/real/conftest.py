"""The servers as fixtures, each started once, and `batchrun` as a process against one of them."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Behaviour, embedded_endpoint, parse_faults

from . import servers
from .servers import CONTEXT, KEY, MODEL, Server

ROOT = Path(__file__).resolve().parents[2]
FAULTS = "stall match=[slow] times=1 seconds=2"
ENDLESS = "too long " * CONTEXT


class Upstream:
    """The embedded endpoint behind the proxies, the only one that knows what was answered."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(self.url.removesuffix("/v1") + "/stats", trust_env=False).json()
        return found


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    behaviour = Behaviour(api_key=KEY, models=(MODEL,), context_length=CONTEXT, faults=parse_faults(FAULTS))
    with embedded_endpoint(behaviour) as url:
        yield Upstream(url)


@pytest.fixture(scope="session", autouse=True)
def litellm_starting(upstream: Upstream, tmp_path_factory: Any) -> Iterator[Callable[[], Server] | str]:
    """LiteLLM takes seconds to start: it does so while the others are tried. Its absence is told to its own tests."""
    folder = tmp_path_factory.mktemp("litellm")
    with contextlib.ExitStack() as stack:
        if (servers.HOME / "litellm/bin/litellm").exists():
            yield stack.enter_context(servers.litellm(folder, upstream.url, KEY))
        else:
            yield "litellm"


@pytest.fixture(scope="session")
def litellm(litellm_starting: Callable[[], Server] | str) -> Server:
    if isinstance(litellm_starting, str):
        servers.installed(servers.HOME / "litellm/bin/litellm")
    return litellm_starting()


def aimock_fixtures() -> list[dict[str, Any]]:
    """An answer for each sum, faults that happen once to a row that names one, and errors that always happen."""
    once: list[tuple[str, dict[str, Any]]] = [
        ("[500]", {"chaos": {"dropRate": 1}}),
        ("[malformed]", {"chaos": {"malformedRate": 1}}),
        ("[disconnect]", {"chaos": {"disconnectRate": 1}}),
        ("[429]", {"chaos": {"rateLimitRate": 1}}),
        ("[late]", {"chaos": {"latencyMs": 400}}),
        ("[truncate]", {"truncateAfterChunks": 2}),
    ]
    errors = {
        "too long": (400, "This model's maximum context length is 1000 tokens.", "context_length_exceeded"),
        "[spent]": (429, "You exceeded your current quota, please check your plan.", "insufficient_quota"),
        "[nowhere]": (404, "The model `m2` does not exist or you do not have access to it.", "model_not_found"),
    }
    found = []
    for words, (status, message, code) in errors.items():
        error = {"message": message, "type": "invalid_request_error", "code": code}
        found.append({"match": {"userMessage": words}, "response": {"error": error, "status": status}})
    for n in range(100):
        text = f"What is {n} + 1?"
        said = {"content": str(n + 1), "usage": usage_of(n)}
        for words, fault in once:
            match = {"userMessage": f"{text} {words}", "sequenceIndex": 0}
            found.append({"match": match, "response": said, **fault})
        found.append({"match": {"userMessage": text, "model": MODEL}, "response": said})
    return found


def usage_of(n: int) -> dict[str, int]:
    """The usage that aimock is told to report for a row."""
    return {"prompt_tokens": 10 + n, "completion_tokens": 5, "total_tokens": 15 + n}


@pytest.fixture(scope="session")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.aimock(tmp_path_factory.mktemp("aimock"), aimock_fixtures()) as server:
        yield server


@pytest.fixture(scope="session")
def mitmproxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.mitmproxy(tmp_path_factory.mktemp("mitmproxy"), upstream.url) as server:
        yield server


@pytest.fixture(scope="session")
def nginx(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    with servers.nginx(tmp_path_factory.mktemp("nginx"), upstream.url) as server:
        yield server


class Job:
    """A job in a folder of its own against one server: start `run` or `check` of it, finish, and read what it left.

    Its tag stands in the query of its base_url, so that it can run beside others; aimock counts by it too.
    """

    def __init__(self, folder: Path, server: Server, **settings: Any) -> None:
        self.folder = folder
        self.server = server
        self.tag = f"{folder.parent.name}-{folder.name}".replace("_", "-")
        self.url = f"{server.url}?testId={self.tag}"
        self.key = settings.pop("key", KEY)
        self.stream = settings.pop("stream", False)
        self.flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self.texts: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def asked(self) -> int:
        """How many requests of this job the server received."""
        return sum(self.tag in line for line in self.server.asked())

    def rows(self, texts: Sequence[str]) -> "Job":
        """The input: one prompt for each text."""
        self.texts = list(texts)
        lines = [json.dumps({"number": n, "prompt": f"{text} ({self.tag})"}) + "\n" for n, text in enumerate(texts)]
        (self.folder / "rows.jsonl").write_text("".join(lines))
        return self

    def sums(self, count: int, mishaps: Mapping[str, Sequence[int]] | None = None) -> "Job":
        """The input: one sum for each row, and the named mishap in those that shall meet it."""
        met = {row: f" [{name}]" for name, rows in (mishaps or {}).items() for row in rows}
        return self.rows([f"What is {n} + 1?{met.get(n, '')}" for n in range(count)])

    def start(
        self, command: str = "run", *flags: str, job_file: str = "", env: Mapping[str, str] | None = None
    ) -> "Job":
        """Start the command on the rows, or on a job file; what it prints goes to files, so that nobody waits for it."""
        if job_file:
            (self.folder / "job.toml").write_text(job_file)
        source = "job.toml" if job_file else "rows.jsonl"
        names = ("--base-url", self.url, "--model", self.server.model, "--api-key-env", "THE_KEY")
        stream = "--stream" if self.stream else "--no-stream"
        output = ("-o", "out") if command == "run" else ()
        line = [sys.executable, "-m", "batchrun", command, source, *names, stream, *output, *self.flags, *flags]
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_api_key"))}
        environ = {**kept, "PYTHONPATH": str(ROOT), "THE_KEY": self.key, **(env or {})}
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(line, env=environ, cwd=self.folder, stdout=stdout, stderr=stderr)
        return self

    def finish(self, code: int = 0) -> "Job":
        """Wait for its end with that exit code. Whatever happened: no traceback, and no key in what was printed."""
        assert self.process is not None
        self.process.wait(timeout=120)
        self.stdout, self.stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        said = self.stdout + self.stderr
        assert "Traceback" not in said, said
        assert self.key not in said
        assert self.process.returncode == code, said
        return self

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def results(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.folder / "out/results.parquet").to_pylist()
        return found

    def bill(self) -> dict[str, Any]:
        """The total row of the cost summary."""
        found: dict[str, Any] = pq.read_table(self.folder / "out/cost_summary.parquet").to_pylist()[-1]
        return found

    def assert_sums(self, results: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Every row once, in input order, ok, with the answer to its own question; the results."""
        results = self.results() if results is None else results
        found = [(one["number"], one["status"], one["completion"], one["error_message"]) for one in results]
        assert found == [(n, "ok", str(n + 1), None) for n in range(len(self.texts))]
        return results

    def assert_stopped(self, kind: str, *words: str) -> None:
        """A guard stopped it: the line before the command that goes on has the kind, what was said and what to do; nothing is
        published.
        """
        last = next(line for line in reversed(self.stderr.splitlines()) if "to go on: " not in line)
        assert f"stopped ({kind})" in last
        for word in words:
            assert word in last
        assert not (self.folder / "out/results.parquet").exists()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """`job(server, **settings)` makes a job in a folder of its own; settings are flags, `key` and `stream`."""
    with contextlib.ExitStack() as stack:
        yield jobs_in(tmp_path, stack)


def jobs_in(folder: Path, stack: contextlib.ExitStack) -> Callable[..., Job]:
    """A maker of jobs, none of which outlives the stack."""
    numbers = itertools.count()

    def make(server: Server, **settings: Any) -> Job:
        own = folder / str(next(numbers))
        own.mkdir()
        made = Job(own, server, **settings)
        stack.callback(made.end)
        return made

    return make
