"""What of an earlier run still answers the job, shard by shard; the rest is set aside, its answers to be drawn upon.

Every step can be cut short by a crash and taken again: files are moved before the inventory that describes them is
replaced, and a part counts only where its shard stands unchanged in the inventory.
"""

from collections.abc import Iterable
from pathlib import Path

from batchrun.ledger import durable, parts, sealed
from batchrun.ledger.identity import Shards
from batchrun.ledger.journal import rewrite
from batchrun.ledger.lines import Carried, Line, attempts_of, identity_of
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Result

_UNREADABLE = ".state/unreadable"
_RETRIED = ".retried"


def reconcile(run_dir: RunDir, old: Shards | None, new: Shards) -> list[str]:
    """Keep the parts and journals of unchanged shards, supersede all others, and forget leftovers of a cut-off sealing.

    Returns the names of parts that can't be read: they are out of the way, and their journals, which have what they were
    made from, count again.
    """
    _finish_retries(run_dir)
    unreadable = _set_unreadable_aside(run_dir)
    kept = set()
    if old is not None and (old.requests, old.columns) == (new.requests, new.columns):
        kept = {one.number for one, other in zip(old.shards, new.shards, strict=False) if one == other}
    stale = []
    if old is None and run_dir.results.exists():
        stale.append(run_dir.results)  # what it holds can't be told by shards any more, by requests it can
        run_dir.summary.remove()
    elif old is not None and (old != new or run_dir.sealed() != {info.number for info in old.shards}):
        _unmerge(run_dir, old)
    sealed, journals = run_dir.sealed(), run_dir.open_journals()
    stale += [run_dir.part(number) for number in sorted(sealed - kept)]
    run_dir.supersede(stale, [run_dir.journal(number) for number in sorted(journals - kept)])
    # a crash fell between a part's rename and its journal's removal; by now the part is durable (`RunDir.acquire`)
    durable.remove([run_dir.journal(number) for number in sorted(sealed & kept & journals)])
    return unreadable


def _set_unreadable_aside(run_dir: RunDir) -> list[str]:
    """A journal is given up only for a part that can be read to its last byte."""
    both = sorted(run_dir.sealed() & run_dir.open_journals())
    names = [run_dir.part(number).name for number in both if not sealed.is_whole(run_dir.part(number))]
    if names:
        run_dir.store.move(names, run_dir.new_folder(_UNREADABLE))
    return names


def _unmerge(run_dir: RunDir, old: Shards) -> None:
    """Turn results.parquet back into parts, so that shards can be kept or superseded one by one."""
    if not run_dir.results.exists():
        return
    if old.shards:
        # all of them, also those that stand already: an earlier attempt may have been cut short
        parts.split(run_dir.results, [run_dir.part(info.number) for info in old.shards])
    run_dir.summary.remove()  # first: as long as the results stand, this is done again
    run_dir.results.remove()


def reopen_failed(run_dir: RunDir, shards: Shards, numbers: Iterable[int], kinds: frozenset[str]) -> int:
    """For --retry-failed: shards with failed results become open again, holding only their `ok` ones and, of the others,
    the attempts. What is replaced is set aside. `numbers` are the shards to look at, `kinds` the failures, all where empty.

    Returns how many results are to be asked again.
    """
    _unmerge(run_dir, shards)
    sealed, journals = run_dir.sealed(), run_dir.open_journals()
    count = 0
    for number in numbers:
        path, part = run_dir.journal(number), run_dir.part(number)
        if number in sealed:
            results = list(parts.read_results(part))
        elif number in journals:
            results = list(replay(path).results.values())
        else:
            continue
        failed = sum(result.is_retried(kinds) for result in results)
        if not failed:
            continue
        count += failed
        if number in sealed:
            rewrite(path, shards.shards[number].digest, _without_failed(results, kinds))
            run_dir.supersede([part], [])
        else:
            _drop_failed(run_dir, path, shards.shards[number].digest, kinds)
    return count


def _without_failed(results: Iterable[Result], kinds: frozenset[str]) -> list[Line]:
    lines = []
    for one in results:
        if one.request_hash and not one.is_retried(kinds):
            lines.append(Line(result=one))
        elif one.attempts:
            lines.append(Line(carried=Carried(*one.key, one.request_hash, *attempts_of(one), identity_of(one))))
    return lines


def _drop_failed(run_dir: RunDir, path: Path, digest: str, kinds: frozenset[str]) -> None:
    """The same for a shard that is open: its journal is copied before it is replaced, and the copy set aside after that.
    `_finish_retries` tells by it how far this came.
    """
    found = replay(path)
    lines = _without_failed(found.results.values(), kinds)
    for key, tally in found.tallies.items():
        if key not in found.results:
            # attempts under way when the writer died stay so
            attempts = (tally.failed, tally.sent - tally.failed, tally.cost)
            lines.append(Line(carried=Carried(*key, tally.hash, *attempts, tally.origin if tally.only_carried else "")))
    copy = path.with_name(path.name + _RETRIED)
    durable.write_whole(copy, found.whole)
    rewrite(path, digest, lines)
    run_dir.supersede([], [copy])


def _finish_retries(run_dir: RunDir) -> None:
    """A journal's copy that was not set aside: the writer had died. It counts once the journal is another; before that it is
    the same again.
    """
    for copy in sorted(run_dir.state.glob(f"journal-*{_RETRIED}")):
        path = copy.with_name(copy.name.removesuffix(_RETRIED))
        if path.exists() and replay(path).whole == copy.read_bytes():
            durable.remove([copy])
        else:
            run_dir.supersede([], [copy])
