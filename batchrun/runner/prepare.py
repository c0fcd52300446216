"""Before a run asks anything: what of an earlier run still holds, what is drawn upon, and what is said of it.

Every step can be cut short and taken again: the inventory that is remembered says how far this came. Works in a thread,
and calls `check` between shards, which raises when the run is told to end.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.judge.estimate import Estimate
from batchrun.ledger.durable import with_checksum, without_checksum
from batchrun.ledger.formats import FORMAT, Numbered, refusal
from batchrun.ledger.identity import Identity, Shards
from batchrun.ledger.reconcile import reconcile, reopen_failed
from batchrun.ledger.replay import replay
from batchrun.ledger.reuse import Offer, Pool, results_of
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import Stored, one_line, write_whole
from batchrun.money import dollars
from batchrun.records import ShardInfo
from batchrun.rows.source import Inventory
from batchrun.runner.assembly import Assembly

RESULT_BYTES = 1500
"""About what a result takes on disk beside its input, journal and part together, for the warning before a run."""


class Remembered(msgspec.Struct, frozen=True):
    """.state/inventory.json: an inventory, what it holds for, and whether earlier answers were taken over into it.

    `spent` are the folders of superseded files whose failures and attempts count no more. A directory of an earlier
    version names no identity.
    """

    inventory: Inventory
    identity: Identity = Identity()
    reuse: tuple[str, ...] = ()
    adopted: bool = False
    spent: tuple[str, ...] = ()
    format: int = 1

    @property
    def shards(self) -> Shards:
        return self.identity.shards(self.inventory.shards)

    def is_settled(self, run_dir: RunDir, shards: Shards, reuse: tuple[str, ...]) -> bool:
        """Whether everything that earlier answers answer of these shards has been taken over: not where a change was cut short,
        which may have set files aside that nobody has drawn upon yet.
        """
        settled = self.adopted and self.shards == shards and self.reuse == reuse
        return settled and set(run_dir.superseded()) <= set(self.spent)


def remembered(run_dir: RunDir) -> Remembered | None:
    """What the run directory remembers of its input; None where there is nothing. Raises JobError."""
    try:
        text = without_checksum(run_dir.inventory.read())
        if text is not None:
            refused = refusal(run_dir.inventory, msgspec.json.decode(text, type=Numbered).format)
            if refused is not None:
                raise JobError(refused)
            return msgspec.json.decode(text, type=Remembered)
        reason = "its checksum is wrong"
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, LedgerError) as error:
        reason = one_line(error)
    raise JobError(
        f"{run_dir.inventory}: unreadable: {reason}. Remove it and run the same command again: the answers are found again "
        "by what they answered"
    )


def results_in(reuse: Iterable[str]) -> list[Stored | Path]:
    """What other run directories hold. Raises JobError for one without results."""
    others: list[Stored | Path] = []
    for path in reuse:
        other = RunDir(path)
        other.read_manifest()  # refuses that of a newer version
        found = results_of(other)
        if not found:
            raise JobError(f"reuse: {path}: no results there; name a run directory")
        others += found
    return others


class Preparation:
    """The steps from an earlier run's state to one that can be gone on with. The lock is held by the caller."""

    def __init__(self, assembly: Assembly, check: Callable[[], None], *, retried: frozenset[str] | None) -> None:
        self._assembly = assembly
        self._dir = assembly.run_dir
        self._check = check
        self._retried = retried
        self._stored = remembered(self._dir)
        self._reuse = tuple(assembly.job.reuse)
        self._others = results_in(self._reuse)

    @property
    def is_scanned(self) -> bool:
        """Whether the input was scanned for just these requests, and no file has changed since."""
        return self._stored is not None and self._stored.identity.scans_like(self._assembly.identity())

    def inventory(self) -> Inventory:
        """The input's inventory: the remembered one where that still holds, else a new scan."""
        if self._stored is not None and self.is_scanned:
            return self._stored.inventory
        return self._assembly.scan(lambda _requests: self._check())

    def is_unchanged(self, inventory: Inventory) -> bool:
        """Whether the remembered shards are just the present ones."""
        return self._stored is not None and self._stored.shards == self._assembly.shards(inventory)

    def settle(self, inventory: Inventory) -> None:
        """Bring the directory to the present job and input: keep, set aside, reopen, take over."""
        stored, shards = self._stored, self._assembly.shards(inventory)
        known = None if stored is None else stored.shards
        self._tell_in_flight()
        for name in reconcile(self._dir, known, shards):
            self._assembly.note(f"{name} cannot be read and is set aside; its answers are in its journal, and are kept")
        spent = () if stored is None else stored.spent
        adopted = stored is not None and stored.is_settled(self._dir, shards, self._reuse)
        if self._retried is not None:
            numbers = (info.number for info in self._checked(inventory))
            count = reopen_failed(self._dir, shards, numbers, self._retried)
            of = f" ({', '.join(sorted(self._retried))})" if self._retried else ""
            said = f"{count} failed requests are asked again{of}" if count else f"no failed requests{of} to ask again"
            self._assembly.note(said)
        self._remember(inventory, adopted, spent)
        if not adopted:
            self._adopt(inventory, spent, changed=known is not None)
        # from here on the failures of what was set aside have a result in the run again, or none that matters
        self._remember(inventory, True, tuple(self._dir.superseded()))
        self._warn_of_space(inventory)
        # the price list is loaded when it is first looked into: here, and not in the loop that others share with the run
        self._assembly.prices.rate(self._assembly.endpoint, self._assembly.job.endpoint.model or "")

    def _checked(self, inventory: Inventory) -> Iterator[ShardInfo]:
        for info in inventory.shards:
            self._check()
            yield info

    def _remember(self, inventory: Inventory, adopted: bool, spent: tuple[str, ...]) -> None:
        record = Remembered(inventory, self._assembly.identity(inventory), self._reuse, adopted, spent, FORMAT)
        if record != self._stored:
            write_whole(self._dir.inventory, with_checksum(msgspec.json.encode(record)))
            self._stored = record

    def _tell_in_flight(self) -> None:
        """After a crash: how many requests were under way, and what they may have cost."""
        count = known = unknown = 0
        for number in sorted(self._dir.open_journals() - self._dir.sealed()):
            self._check()
            for tally in replay(self._dir.journal(number)).in_flight().values():
                count += tally.under_way
                known += (tally.ceiling or 0) * tally.under_way
                unknown += tally.under_way * (tally.ceiling is None)
        if count:
            bill = f"at most {dollars(known)} may have been billed"
            if unknown:
                bill = (
                    "they may have been billed" if unknown == count else f"{bill}, and {unknown} more of unknown cost"
                )
            self._assembly.note(f"{count} requests were in flight when the run broke off: {bill}; they are asked again")

    def _offers(self, spent: tuple[str, ...]) -> list[Offer]:
        """What may be drawn upon: files that this run set aside, and all that other runs hold."""
        folders = self._dir.superseded()
        offers = [Offer(file, name not in spent) for name in folders for file in self._dir.superseded_files(name)]
        return offers + [Offer(file, False) for file in self._others]

    def _adopt(self, inventory: Inventory, spent: tuple[str, ...], *, changed: bool) -> None:
        """Take over every earlier answer that still answers a request; say what is kept and what is asked again."""
        offers = self._offers(spent)
        if not offers and not changed:
            return
        assembly, per_row = self._assembly, self._assembly.builder.per_row
        sealed = self._dir.sealed()
        kept = sum(info.rows for info in inventory.shards if info.number in sealed) * per_row
        estimate = Estimate(assembly.prices, assembly.endpoint)
        ledger = assembly.ledger(inventory)
        index = self._dir.state / "reuse.sqlite"
        pool = Pool(index, offers, self._dir.all_results(), retried=self._retried, check=self._check)
        try:
            for info in self._checked(inventory):
                if info.number not in sealed:
                    shard = assembly.source.read(info)
                    requests, unusable = assembly.requests_of(shard)
                    left = ledger.adopt(shard, requests, unusable, pool)
                    kept += len(requests) - len(left)
                    for request in left:
                        estimate.add(request)
        except BaseException:
            with contextlib.suppress(LedgerError):  # the first fault is the one to tell of
                ledger.close()
            raise
        finally:
            pool.close()
        ledger.close()
        assembly.note(f"{kept} answers are kept, {estimate.requests} requests are asked again{_price(estimate)}")

    def _warn_of_space(self, inventory: Inventory) -> None:
        """Compare what the rest of the run is likely to take with what is free."""
        sealed = self._dir.sealed()
        left = sum(info.rows for info in inventory.shards if info.number not in sealed)
        if not left:
            return
        size = sum(file.size for file in inventory.files)
        need = (size // inventory.rows + RESULT_BYTES) * left * self._assembly.builder.per_row * 2
        free = shutil.disk_usage(self._dir.state).free
        if need > free:
            self._assembly.note(
                f"warning: about {need / 1e9:.1f} GB may be needed, and {free / 1e9:.1f} GB are free on {_disk(self._dir)}; "
                "a full disk stops the run, and freeing space lets it go on"
            )


def _disk(run_dir: RunDir) -> Path:
    return run_dir.state.parent if run_dir.is_local else run_dir.state


def _price(estimate: Estimate) -> str:
    if not estimate.requests or estimate.prompt_cost is None:
        return ""
    most = "" if estimate.most_cost is None else f", at most about {dollars(estimate.most_cost)} with their answers"
    rest = f"; {estimate.unpriced} of them have no known price" if estimate.unpriced else ""
    return f" (about {dollars(estimate.prompt_cost)} for their prompts{most}{rest})"
