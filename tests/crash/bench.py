"""A warm process and an endpoint, on which runs are started and broken; and the places where they leave their files."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from soak import Soak

from batchrun.embedded import Behaviour
from forks import Warm
from served import Endpoints, patient_client

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCY = 2
PID = "{pid}"
"""In an option of strace: the process's own number."""
JOB = """
[input]
path = "{rows}"
[endpoint]
model = "m"
[prices.m]
input = 0.25
output = 1.25
"""
SHARD_REQUESTS = 2


class Ended(NamedTuple):
    """How a call of batchrun ended: the exit code (negative: the signal), what it printed, what the endpoint saw."""

    code: int
    said: str
    received: int


class Running:
    """A call of batchrun under way, in a process group of its own."""

    def __init__(
        self, bench: "Bench", pid: int, log: Path, before: int, tracer: "subprocess.Popen[bytes] | None"
    ) -> None:
        self.pid = pid
        self._bench = bench
        self._log = log
        self._before = before
        self._tracer = tracer

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the run and all its children."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has only just begun, and has no group yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def until(self, received: int) -> None:
        """Wait until the endpoint has received so many requests since this run was started; it must still live then."""
        deadline = time.monotonic() + 30
        while self._bench.stats()["received"] < self._before + received:
            assert self._bench.lives(self.pid), f"the run ended too early: {self._log.read_text()}"
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.005)

    def wait(self) -> Ended:
        code = self._bench.warm.code(self.pid)
        assert code is not None
        if self._tracer is not None:
            self._tracer.wait()
        return Ended(code, self._log.read_text(), self._bench.stats()["received"] - self._before)


class Bench:
    """A place to break runs, one or several at a time: an endpoint of its own, and a warm process that forks them."""

    def __init__(self, url: str, warm: Warm, ledger: Path) -> None:
        self.url = url
        self.warm = warm
        self.ledger = ledger
        self._client = patient_client()

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self._client.get(self.url.removesuffix("/v1") + "/stats").json()
        return found

    def start(
        self,
        folder: Path,
        *flags: str,
        strace: Sequence[str] = (),
        url: str | None = None,
        concurrency: int = CONCURRENCY,
        log: str = "said",
        **order: Any,
    ) -> Running:
        """`batchrun run job.toml` of the folder's parent into `folder`/out, under strace with these options if any."""
        args = ["run", str(folder.parent / "job.toml"), "-o", str(folder / "out"), "--base-url", url or self.url]
        args += ["--concurrency", str(concurrency), "--quiet", *flags]
        said = folder.parent / f"{folder.name}.{log}"
        return self._call(args, folder, said, strace, order)

    def _call(
        self, args: list[str], folder: Path, said: Path, strace: Sequence[str], settings: dict[str, Any]
    ) -> Running:
        said.touch()
        before = self.stats()["received"]
        order = {"shard_requests": SHARD_REQUESTS, "traced": bool(strace), **settings}
        pid = self.warm.start(*args, cwd=folder, out=str(said), err=str(said), session=True, ends_after_s=0, **order)
        tracer = None
        if strace:
            tracer = _traced(pid, [option.replace(PID, str(pid)) for option in strace])
        return Running(self, pid, said, before, tracer)

    def run(self, folder: Path, *flags: str, **settings: Any) -> Ended:
        return self.start(folder, *flags, **settings).wait()

    def done(self, folder: Path) -> int:
        """How many requests have their result, as `batchrun status` sees it; 0 where no run has begun."""
        if not (folder / "out" / "run.json").exists():
            return 0
        said = folder.parent / f"{folder.name}.status"
        ended = self._call(["status", str(folder / "out"), "--json"], folder, said, (), {}).wait()
        assert ended.code == 0, ended.said
        return int(json.loads(ended.said)["done"])

    def lives(self, pid: int) -> bool:
        return self.warm.code(pid, 0) is None


def _traced(pid: int, options: list[str]) -> "subprocess.Popen[bytes]":
    """strace on a call that stands still, which goes on once it is held: from its first system call on none is missed."""
    _await(pid, "State:\tT")
    line = ["strace", "-f", "-qq", *options, "-p", str(pid)]
    tracer = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _await(pid, f"TracerPid:\t{tracer.pid}\n")
    os.kill(pid, signal.SIGCONT)
    return tracer


def _await(pid: int, sign: str) -> None:
    deadline = time.monotonic() + 20
    while sign not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, f"strace does not get hold of the run: no {sign!r}"
        time.sleep(0.001)


class Site:
    """A folder with a job, its input, and a run directory for each thing that is tried on it."""

    def __init__(self, folder: Path, benches: list[Bench], soak: Soak | None = None) -> None:
        self.soak = soak
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.benches = benches
        self.rows = self.folder / "rows.jsonl"
        (self.folder / "job.toml").write_text(JOB.format(rows=self.rows))
        self._count = 0
        self.template: Path | None = None

    def write_rows(self, count: int, padding: int = 0) -> None:
        """So many questions; each row is longer by `padding` bytes of another column."""
        more = {"padding": "x" * padding} if padding else {}
        lines = [json.dumps({"number": n, "prompt": f"What is {n} + 1?", **more}) + "\n" for n in range(count)]
        self.rows.write_text("".join(lines))

    def fresh(self) -> Path:
        """A folder for one try, which begins with the template's run directory if there is one."""
        self._count += 1
        folder = self.folder / f"try-{self._count}"
        folder.mkdir()
        if self.template is not None:
            shutil.copytree(self.template, folder / "out")
        return folder

    def everywhere(self, trials: Sequence[Callable[[Bench], Any]]) -> list[Any]:
        """Do the trials, one at a time on each bench; what they return. Of a long test's, as many as there is time for,
        in an order that its seed draws: the first and the last always.
        """
        idle = list(self.benches)
        results: dict[int, Any] = {}

        def one(place: int) -> None:
            ends = place in (0, len(trials) - 1)
            if self.soak is not None and not self.soak.goes_on(len(trials)) and not ends:
                return
            bench = idle.pop()
            try:
                results[place] = trials[place](bench)
            finally:
                idle.append(bench)

        order = list(range(len(trials)))
        if self.soak is not None:
            self.soak.chance.shuffle(order)
        with concurrent.futures.ThreadPoolExecutor(len(idle)) as pool:
            list(pool.map(one, order))
        return [results[place] for place in sorted(results)]


@contextlib.contextmanager
def make_bench(endpoints: Endpoints, warm: Warm, behaviour: Behaviour) -> Iterator[Bench]:
    """A bench whose endpoint behaves so."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        with endpoints.serving(behaviour, ledger) as url:
            bench = Bench(url, warm, ledger)
            with bench._client:
                yield bench
