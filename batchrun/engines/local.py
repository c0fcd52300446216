"""The local engine: every shard in this process, in order."""

from collections.abc import Iterable

from batchrun.records import ShardInfo
from batchrun.runner.window import Runner


async def run(runner: Runner, infos: Iterable[ShardInfo]) -> None:
    await runner.run(infos)
