"""kill -9 in the middle of a run, and the same command again (contract.md §7, promises 1 to 3)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Behaviour, embedded_endpoint

ROWS = 3000
CONCURRENCY = 32
KILL_AT = (700, 1900)
SLOTS, FIRST_TOKEN_S = 32, 0.04  # 800 answers a second at most: four seconds for all rows


def received(url: str) -> int:
    count: int = stats(url)["received"]
    return count


def stats(url: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(url.removesuffix("/v1") + "/stats", trust_env=False).json()
    return found


@contextlib.contextmanager
def process(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The program in a process group of its own, which does not outlive the block."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    running = subprocess.Popen(
        command, env=environ, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def kill_when(command: list[str], url: str, target: int) -> None:
    """Start the run and kill its whole group at the moment the endpoint has received `target` requests."""
    with process(command) as running:
        deadline = time.monotonic() + 30
        while received(url) < target:
            assert running.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"number": n, "prompt": f"What is {n} + 1?"}) + "\n" for n in range(ROWS)))
    return [
        *(sys.executable, "-m", "batchrun", "run", str(rows), "-o", str(tmp_path / "out"), "--model", "m"),
        *("--concurrency", str(CONCURRENCY), "--quiet"),
    ]


def test_killed_twice_and_run_again(tmp_path: Path, command: list[str]) -> None:
    """After two kill -9 the same command completes: every row once, in order, and only what was in flight asked again."""
    with embedded_endpoint(Behaviour(slots=SLOTS, first_token_s=FIRST_TOKEN_S)) as url:
        command += ["--base-url", url]
        out = tmp_path / "out"
        for target in KILL_AT:
            kill_when(command, url, target)
            assert not (out / "results.parquet").exists(), "results appear whole or not at all"
            state = json.loads((out / "run.json").read_bytes())["state"]
            assert state == "running"
        with process(command) as running:
            assert running.wait(timeout=60) == 0
        counts = stats(url)

    table = pq.read_table(out / "results.parquet")
    assert table["row"].to_pylist() == list(range(ROWS))
    assert table["number"].to_pylist() == list(range(ROWS))
    assert table["completion"].to_pylist() == [str(n + 1) for n in range(ROWS)]
    assert set(table["status"].to_pylist()) == {"ok"}
    total = pq.read_table(out / "cost_summary.parquet").to_pylist()[-1]
    assert (total["requests"], total["ok"], total["failed"]) == (ROWS, ROWS, 0)

    lost = CONCURRENCY * len(KILL_AT)
    assert counts["distinct"] == ROWS
    assert counts["received"] - counts["distinct"] <= lost
    assert counts["repeated"] <= lost
    # every attempt that was cut off is confessed: it may have been billed
    unconfirmed = sum(table["unconfirmed_attempts"].to_pylist())
    assert counts["received"] - ROWS <= unconfirmed <= lost
    assert sum(table["attempts"].to_pylist()) == ROWS + unconfirmed


def test_a_second_run_takes_over_at_once(tmp_path: Path, command: list[str]) -> None:
    """A killed writer's lock dies with it: the next run starts without a wait, and leaves no working state behind."""
    with embedded_endpoint(Behaviour(slots=SLOTS, first_token_s=FIRST_TOKEN_S)) as url:
        command += ["--base-url", url, "--limit", "150"]
        kill_when(command, url, 60)
        with process(command) as running:
            assert running.wait(timeout=30) == 0
    state = tmp_path / "out" / ".state"
    assert sorted(path.name for path in state.iterdir()) == ["inventory.json", "lock"]
    assert pq.read_metadata(tmp_path / "out" / "results.parquet").num_rows == 150
