"""The virtual loop itself: one time for everything that waits, and threads that take none of it."""

import time

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from batchrun.clock import SystemClock
from virtual import BEGIN, VirtualLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.anyio
async def test_the_system_clock_is_the_loops() -> None:
    """The program's own clock, anyio's time and deadlines are one: an hour passes for all of them, and at once."""
    clock = SystemClock()
    assert clock.now() == anyio.current_time() == BEGIN
    with anyio.move_on_after(3600) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert clock.now() == anyio.current_time() == BEGIN + 3600
    await clock.sleep(60)
    assert clock.now() == pytest.approx(BEGIN + 3660)


@pytest.mark.anyio
async def test_time_stands_still_while_a_thread_works() -> None:
    """A sleeper's hour does not pass before a thread that works beside it is done, and threads may call back."""
    ended: list[tuple[str, float]] = []

    async def sleeper() -> None:
        await anyio.sleep(3600)
        ended.append(("sleeper", anyio.current_time()))

    def work() -> float:
        time.sleep(0.02)
        return anyio.from_thread.run_sync(anyio.current_time)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        ended.append(("thread", await anyio.to_thread.run_sync(work)))
    assert ended == [("thread", BEGIN), ("sleeper", BEGIN + 3600)]
