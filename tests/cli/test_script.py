"""A script that calls batchrun.run: signals, listeners, and what it is told."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.errors import JobError
from batchrun.events import Began, Event

SCRIPT = """
import signal, batchrun
{before}
out = batchrun.run("rows.jsonl", base_url={url!r}, model="m", concurrency=4, output="out")
print("after", out.exit_code, out.ok)
"""
ROWS = range(40)


@pytest.fixture
def script(start: Callable[..., Any]) -> Callable[..., Any]:
    """Run a script, send it a signal once the endpoint has received some requests; (how it ended, its job)."""

    def run(sent: signal.Signals, before: str = "") -> tuple[subprocess.CompletedProcess[str], Any]:
        job = start(first_token_s=0.2, slots=4)
        job.rows(ROWS)
        (job.folder / "script.py").write_text(SCRIPT.format(before=before, url=job.endpoint.url))
        process = job.begin(script="script.py", cwd=job.folder)
        try:
            job.until(process, 8)
            process.send_signal(sent)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait(timeout=30)
        return subprocess.CompletedProcess([], process.wait(), out, err), job

    return run


def goes_on_without_loss(job: Any) -> None:
    received = job.endpoint.received
    assert job.run() == len(ROWS) - received
    assert job.endpoint.stats()["repeated"] == 0


def test_an_interrupt_from_the_keyboard_ends_the_run_and_not_the_script(script: Callable[..., Any]) -> None:
    """What is in flight is waited for, a line says what happened, and the script has an Outcome; the run can go on."""
    process, job = script(signal.SIGINT)
    assert process.returncode == 0
    assert process.stdout.startswith("after 130")
    assert process.stderr == "out: interrupted by SIGINT; run the same command again to go on\n"
    goes_on_without_loss(job)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_script_waits_for_what_is_in_flight(
    script: Callable[..., Any], sent: signal.Signals
) -> None:
    """The process ends by it all the same, and nothing after the run is done."""
    process, job = script(sent)
    assert process.returncode == -sent
    assert process.stdout == ""
    goes_on_without_loss(job)


def test_a_script_s_own_handler_stays(script: Callable[..., Any]) -> None:
    """A signal that the script handles by itself is none of the run's."""
    process, job = script(signal.SIGTERM, "signal.signal(signal.SIGTERM, lambda *_: print('mine'))")
    assert process.returncode == 0
    assert process.stdout == f"mine\nafter 0 {len(ROWS)}\n"
    assert job.endpoint.received == len(ROWS)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    return [{"prompt": f"What is {n} + 1?"} for n in range(3)]


def test_a_listener_can_t_break_a_run(rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged once, and it goes on hearing."""
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        raise ValueError("mine")

    outcome = batchrun.run(
        rows, base_url="embedded:", model="m", output="out", listener=lambda _total, _prices: listener
    )
    assert outcome.exit_code == 0
    assert len(heard) > 3
    assert isinstance(heard[0], Began)
    assert [one.message for one in caplog.records if one.exc_info] == ["a listener failed; the run goes on"]


@pytest.mark.parametrize("listener", [lambda _event: None, lambda _total, _prices: None])
def test_a_listener_that_cannot_be_made_breaks_no_run(
    rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, listener: Any
) -> None:
    """A listener that does not take the two arguments, or makes none, is logged; the run ends as it would without one."""
    outcome = batchrun.run(rows, base_url="embedded:", model="m", output="out", listener=listener)
    assert outcome.ok == len(rows)
    assert len([one for one in caplog.records if one.exc_info and "listener" in one.message]) == 1


def test_what_happens_goes_to_logging(rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    """The logger `batchrun` has a run's story and its notes, in words; nothing is printed where nobody asked."""
    caplog.set_level(logging.INFO, "batchrun")
    batchrun.run(rows, base_url="embedded:", model="m", output="out")
    batchrun.run(rows, base_url="embedded:", model="m", output="out")
    said = [one.message for one in caplog.records if one.name == "batchrun"]
    assert said[:2] == ["started: 3 requests", "complete: 3 ok, 0 failed"]
    assert said[-1].startswith("nothing to do")


def test_a_script_asks_for_lines_of_progress(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """`progress` chooses; auto shows nothing where nobody watches, and another word is a JobError that names them."""
    batchrun.run(rows, base_url="embedded:", model="m", output="a", progress="log")
    assert "3/3 (100.0 %)" in capsys.readouterr().err
    batchrun.run(rows, base_url="embedded:", model="m", output="b")
    assert capsys.readouterr().err == ""
    with pytest.raises(JobError, match="auto, bar, log, none"):
        batchrun.run(rows, base_url="embedded:", model="m", output="c", progress="loud")  # type: ignore[arg-type]


LOADED = """
import asyncio, json, sys
import httpx
import batchrun

async def main():
    known = set()

    def answer(request):
        known.update(sys.modules)
        body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "model": "gpt-4o-mini",
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        return httpx.Response(200, json=body)

    asked = {"base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini", "output": "out"}
    out = await batchrun.arun([{"prompt": "x"}], transport=httpx.MockTransport(answer), environ={"OPENAI_API_KEY": "k"}, **asked)
    print(json.dumps([out.cost_usd, "genai_prices" in known]))

asyncio.run(main())
"""


def test_a_caller_s_loop_is_not_held_up_by_imports(command: Callable[..., Any], tmp_path: Path) -> None:
    """The price list, whose import takes long, is loaded in a thread before anything is asked."""
    _line, environ = command()
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environ, cwd=tmp_path, text=True, capture_output=True, check=True
    )
    cost, was_known = json.loads(done.stdout)
    assert cost > 0
    assert was_known
