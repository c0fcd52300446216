"""Signals: the first one asks, the second one ends; what was ignored stays ignored (contract.md §3)."""

import os
import signal
from pathlib import Path

import anyio
import pytest

import batchrun
from batchrun.interrupts import SAME_WISH_S, Interrupts, interruptible, taken
from batchrun.ledger.run_dir import RunDir
from batchrun.stop import StopSign


@pytest.mark.parametrize(("received", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
async def test_the_first_signal_gives_the_exit_code(
    received: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT is 130, SIGTERM and SIGHUP are 143; a second wish, of whatever kind, ends at once and changes no code."""
    now = 100.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    interrupts, sign = Interrupts(), StopSign()
    interrupts.drains = sign
    interrupts.take(received)
    assert (sign.asked.is_set(), sign.at_once.is_set()) == (True, False)
    now += SAME_WISH_S + 0.1
    interrupts.take(signal.SIGINT)
    assert sign.at_once.is_set()
    assert sign.stop is not None
    assert (sign.stop.kind, sign.stop.exit_code) == ("signal", code)
    assert interrupts.exit_code == code
    assert received.name in interrupts.message


async def test_a_signal_outside_of_draining_ends_the_body() -> None:
    """While nothing drains, the body is cancelled and left quietly."""
    async with interruptible(taken(True)) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()
    assert interrupts.signal is signal.SIGTERM


async def test_the_same_wish_again_does_not_end_what_comes_after_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the end of a drained run is written down, the same wish again changes nothing; another one ends it."""
    now = 100.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    interrupts = Interrupts()
    interrupts.drains = StopSign()
    interrupts.take(signal.SIGTERM)
    interrupts.drains = None
    interrupts.take(signal.SIGTERM)
    interrupts.take(signal.SIGHUP)
    assert not interrupts.scope.cancel_called
    now += SAME_WISH_S + 0.1
    interrupts.take(signal.SIGTERM)
    assert interrupts.scope.cancel_called


async def test_an_ignored_signal_stays_ignored() -> None:
    """Under `nohup` the terminal may close: the run goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with interruptible(taken(True)) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            await anyio.sleep(0.05)
        assert interrupts.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_fault_comes_out_as_itself() -> None:
    """An error of the body is not wrapped in a group."""
    with pytest.raises(ValueError, match="plain"):
        async with interruptible(taken(True)):
            raise ValueError("plain")


async def test_a_signal_while_the_lock_is_taken_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the lock of a run directory writes to the disk: a signal meanwhile ends the run as it does later."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n')
    acquire = RunDir.acquire

    def interrupted(run_dir: RunDir) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        acquire(run_dir)

    monkeypatch.setattr(RunDir, "acquire", interrupted)
    job = batchrun.Job(
        input={"path": str(tmp_path / "rows.jsonl")},
        endpoint={"base_url": "http://127.0.0.1:9/v1", "model": "m"},
        output={"path": str(tmp_path / "run")},
    )
    outcome = await batchrun.arun(job, environ={}, signals=True)
    assert (outcome.exit_code, outcome.asked) == (143, 0)
