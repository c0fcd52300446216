"""The local engine: every shard in this process, in order, its requests asked by one window."""

from collections.abc import Iterable

import anyio

from batchrun.records import ShardInfo
from batchrun.runner.shards import ShardLoop
from batchrun.runner.window import Window


async def run(window: Window, loop: ShardLoop, infos: Iterable[ShardInfo]) -> None:
    """Get every request of these shards its result, or end early where the run is told to stop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(window.run)
        await loop.run(infos)
        tasks.cancel_scope.cancel()
