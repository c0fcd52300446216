"""The servers as fixtures, each started once, and `batchrun` as a process against one of them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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
    """A job in a folder of its own against one server: `run` and `check` it, and read what it left."""

    def __init__(self, folder: Path, server: Server, **settings: Any) -> None:
        self.folder = folder
        self.server = server
        self.key = settings.pop("key", KEY)
        self.flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self.texts: list[str] = []

    def rows(self, texts: Sequence[str]) -> "Job":
        """The input: one prompt for each text."""
        self.texts = list(texts)
        lines = [json.dumps({"number": n, "prompt": text}) + "\n" for n, text in enumerate(texts)]
        (self.folder / "rows.jsonl").write_text("".join(lines))
        return self

    def sums(self, count: int, *, mishaps: dict[str, Sequence[int]] | None = None) -> "Job":
        """The input: one sum for each row, and the named mishap in those that shall meet it."""
        met = {row: f" [{name}]" for name, rows in (mishaps or {}).items() for row in rows}
        return self.rows([f"What is {n} + 1?{met.get(n, '')}" for n in range(count)])

    def run(self, *flags: str, code: int | None = 0) -> int:
        """Run to the end; the number of requests that the server received for it."""
        before = self.server.received()
        self._call("run", "-o", "out", *flags)
        if code is not None:
            assert self.process.returncode == code, self.said
        return self.server.received() - before

    def check(self, *flags: str, code: int | None = 0) -> str:
        """Send the first request once; all that was printed."""
        self._call("check", *flags)
        if code is not None:
            assert self.process.returncode == code, self.said
        return self.said

    def _call(self, command: str, *flags: str) -> None:
        names = ("--base-url", self.server.url, "--model", self.server.model, "--api-key-env", "THE_KEY")
        line = [sys.executable, "-m", "batchrun", command, "rows.jsonl", *names, *self.flags, *flags]
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_api_key"))}
        environ = {**kept, "PYTHONPATH": str(ROOT), "THE_KEY": self.key}
        self.process = subprocess.run(
            line, env=environ, cwd=self.folder, timeout=60, capture_output=True, text=True, check=False
        )
        self.said = self.process.stdout + self.process.stderr
        assert "Traceback" not in self.said
        assert self.key not in self.said

    def results(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(self.folder / "out/results.parquet").to_pylist()
        return found

    def bill(self) -> dict[str, Any]:
        """The total row of the cost summary."""
        found: dict[str, Any] = pq.read_table(self.folder / "out/cost_summary.parquet").to_pylist()[-1]
        return found

    def assert_sums(self) -> list[dict[str, Any]]:
        """Every row once, in input order, ok, with the answer to its own question; the results."""
        results = self.results()
        found = [(one["number"], one["status"], one["completion"], one["error_message"]) for one in results]
        assert found == [(n, "ok", str(n + 1), None) for n in range(len(self.texts))]
        return results

    def assert_stopped(self, kind: str, *words: str) -> None:
        """A guard stopped it: one short message with the kind, what was said, and the mend; nothing is published."""
        assert self.process.returncode == 3, self.said
        last = self.process.stderr.splitlines()[-1]
        assert f"stopped ({kind})" in last
        for word in words:
            assert word in last
        assert not (self.folder / "out/results.parquet").exists()


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """`job(server, stream=…)` makes a job in the test's folder."""

    def make(server: Server, *, stream: bool = False, **settings: Any) -> Job:
        made = Job(tmp_path, server, **settings)
        made.flags.append("--stream" if stream else "--no-stream")
        return made

    return make
