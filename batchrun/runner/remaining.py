"""What a run would still have to ask, by what the ledger of its directory says: as prepare.py and the ledger would find out.

Reads alone: it takes no lock, writes nothing but a temporary file of its own, and may stand beside a run under way.
"""

from collections.abc import Callable

import msgspec

from batchrun.errors import LedgerError
from batchrun.ledger.lines import Key
from batchrun.ledger.parts import read_tally
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.stock import Stock, standing
from batchrun.ledger.store import Stored
from batchrun.records import Request, Result
from batchrun.rows.source import Inventory
from batchrun.runner.assembly import Assembly
from batchrun.runner.prepare import remembered, results_in

_ALL = frozenset[str]()


class Remaining(msgspec.Struct):
    """What was found: the input, and how many of its requests have a result already, `failed` of them a failure that stays one.
    Rows that can't be asked are among both.
    """

    inventory: Inventory
    done: int = 0
    failed: int = 0


def remaining(
    assembly: Assembly, see: Callable[[Request], None], check: Callable[[], None] = lambda: None
) -> Remaining:
    """Look through the job. `see` gets every request that is left; `check` is called for every row, and raises when this is to
    end. Raises JobError, and LedgerError where a file of the run is damaged.
    """
    run_dir = assembly.run_dir
    manifest, stored = run_dir.read_manifest(), remembered(run_dir)
    retried = _ALL if manifest is not None and manifest.nobody_answered else None
    reuse = tuple(assembly.job.reuse)
    others = results_in(reuse)
    if retried is None and stored is not None and stored.identity.scans_like(assembly.identity()):
        inventory = stored.inventory
        if stored.is_settled(run_dir, assembly.shards(inventory), reuse):
            return _of_open_shards(assembly, inventory, see)
    with Stock(retried) as stock:
        stock.add(standing(run_dir), failures=True)
        spent = () if stored is None else stored.spent
        for name in run_dir.superseded():
            stock.add(run_dir.superseded_files(name), failures=name not in spent)
        stock.add(others, failures=False)
        return _of_all(assembly, stock, see, check)


def _of_all(assembly: Assembly, stock: Stock, see: Callable[[Request], None], check: Callable[[], None]) -> Remaining:
    """Everything is gone through, and what has an answer is left out."""
    done = failed = 0

    def look(requests: list[Request]) -> None:
        nonlocal done, failed
        check()
        for request in requests:
            status = stock.take(request.hash)
            if status is None:
                see(request)
            else:
                done += 1
                failed += status == "failed"

    inventory = assembly.scan(look)
    unusable = inventory.bad_rows * assembly.builder.per_row
    return Remaining(inventory, done + unusable, failed + unusable)


def _of_open_shards(assembly: Assembly, inventory: Inventory, see: Callable[[Request], None]) -> Remaining:
    """Where the directory is of just this job and input, only what is not sealed yet has to be read."""
    run_dir, per_row = assembly.run_dir, assembly.builder.per_row
    if run_dir.results.exists():
        return Remaining(inventory, inventory.rows * per_row, _failed(run_dir.results))
    found, sealed = Remaining(inventory), run_dir.sealed()
    for info in inventory.shards:
        part = run_dir.part(info.number)
        results = None if info.number in sealed else _journalled(run_dir, info.number)
        if results is None:
            found.done += info.rows * per_row
            found.failed += _failed(part)
            continue
        requests, unusable = assembly.requests_of(assembly.source.read(info))
        found.done += len(unusable)
        found.failed += len(unusable)
        for request in requests:
            result = results.get(request.key)
            if result is None or result.request_hash != request.hash:
                see(request)
            else:
                found.done += 1
                found.failed += result.status != "ok"
    return found


def _journalled(run_dir: RunDir, number: int) -> dict[Key, Result] | None:
    """The results of a shard that was not sealed; None where it is by now."""
    journal = run_dir.journal(number)
    try:
        return replay(journal).results
    except LedgerError:
        if journal.exists():
            raise
    return None if run_dir.part(number).exists() or run_dir.results.exists() else {}


def _failed(file: Stored) -> int:
    """How many results in it are failures; none that could be told of one that was merged meanwhile."""
    try:
        return sum(read_tally(file).failed.values())
    except LedgerError:
        if file.exists():
            raise
        return 0
