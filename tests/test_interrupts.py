"""Signals: the first one asks, the second one ends; what was ignored stays ignored (contract.md §3)."""

import os
import signal

import anyio
import pytest

from batchrun.interrupts import Interrupts, interruptible
from batchrun.stop import StopSign


@pytest.mark.parametrize(("received", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
async def test_the_first_signal_gives_the_exit_code(received: signal.Signals, code: int) -> None:
    """SIGINT is 130, SIGTERM and SIGHUP are 143; a second signal of another kind changes nothing."""
    interrupts, sign = Interrupts(), StopSign()
    interrupts.drains = sign
    interrupts.take(received)
    assert (sign.asked.is_set(), sign.at_once.is_set()) == (True, False)
    interrupts.take(signal.SIGINT)
    assert sign.at_once.is_set()
    assert sign.stop is not None
    assert (sign.stop.kind, sign.stop.exit_code) == ("signal", code)
    assert interrupts.exit_code == code
    assert received.name in interrupts.message


async def test_a_signal_outside_of_draining_ends_the_body() -> None:
    """While nothing drains, the body is cancelled and left quietly."""
    async with interruptible(True) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()
    assert interrupts.signal is signal.SIGTERM


async def test_an_ignored_signal_stays_ignored() -> None:
    """Under `nohup` the terminal may close: the run goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with interruptible(True) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            await anyio.sleep(0.05)
        assert interrupts.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_fault_comes_out_as_itself() -> None:
    """An error of the body is not wrapped in a group."""
    with pytest.raises(ValueError, match="plain"):
        async with interruptible(True):
            raise ValueError("plain")
