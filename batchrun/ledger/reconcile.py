"""What of an earlier run still answers the job, shard by shard; the rest is set aside, its answers to be drawn upon.

Every step can be cut short by a crash and taken again: files are moved before the inventory that describes them is
replaced, and a part counts only where its shard stands unchanged in the inventory.
"""

from pathlib import Path

import msgspec

from batchrun.ledger import parts
from batchrun.ledger.durable import disk_faults, sync_dir, write_whole
from batchrun.ledger.journal import Line, replay, sealed_line
from batchrun.ledger.run_dir import RunDir
from batchrun.records import ShardInfo


class Shards(msgspec.Struct, frozen=True):
    """The shards of a run as its private state remembers them. `requests` is the fingerprint of what shapes a body."""

    requests: str
    shards: tuple[ShardInfo, ...]


def reconcile(run_dir: RunDir, old: Shards | None, new: Shards) -> None:
    """Keep the parts and journals of unchanged shards, supersede all others, and forget leftovers of a cut-off sealing."""
    kept = set()
    if old is not None and old.requests == new.requests:
        kept = {one.number for one, other in zip(old.shards, new.shards, strict=False) if one == other}
    unchanged = old is not None and old.requests == new.requests and old.shards == new.shards
    if old is not None and not unchanged:
        _unmerge(run_dir, old)
    sealed = run_dir.sealed()
    stale = [run_dir.part(number) for number in sealed - kept]
    stale += [run_dir.journal(number) for number in run_dir.open_journals() - kept]
    run_dir.supersede(stale)
    for number in sealed & kept & run_dir.open_journals():
        # a crash fell between the part's rename and the journal's removal
        with disk_faults(run_dir.journal(number)):
            run_dir.journal(number).unlink()


def _unmerge(run_dir: RunDir, old: Shards) -> None:
    """Turn results.parquet back into parts, so that shards can be kept or superseded one by one."""
    if not run_dir.results.exists():
        return
    if old.shards:
        # all of them, also those that stand already: an earlier attempt may have been cut short
        parts.split(run_dir.results, [run_dir.part(info.number) for info in old.shards])
    with disk_faults(run_dir.results):
        run_dir.results.unlink()
        run_dir.summary.unlink(missing_ok=True)
        sync_dir(run_dir.path)


def reopen_failed(run_dir: RunDir, shards: Shards) -> int:
    """For --retry-failed: shards with failed results become open again, holding only their `ok` ones.

    Returns how many results are to be asked again.
    """
    _unmerge(run_dir, shards)
    count = 0
    for number in sorted(run_dir.sealed()):
        path = run_dir.part(number)
        results = list(parts.read_results(path))
        failed = sum(result.status != "ok" for result in results)
        if failed:
            count += failed
            lines = [sealed_line(Line(shard=shards.shards[number].digest))]
            lines += [sealed_line(Line(result=result)) for result in results if result.status == "ok"]
            write_whole(run_dir.journal(number), b"".join(lines))
            run_dir.supersede([path])
    for number in sorted(run_dir.open_journals() - run_dir.sealed()):
        count += _drop_failed(run_dir.journal(number), shards.shards[number].digest)
    return count


def _drop_failed(path: Path, digest: str) -> int:
    found = replay(path)
    failed = [result for result in found.results.values() if result.status != "ok"]
    if failed:
        lines = [sealed_line(Line(shard=digest))]
        lines += [sealed_line(Line(result=result)) for result in found.results.values() if result.status == "ok"]
        write_whole(path, b"".join(lines))
    return len(failed)
