"""The ledger of one run: open shards with their journals, what is done in them, and their sealing.

Called from one event loop (`open`, `sent`, `lost`, `record`) and from threads (`sync`, `seal`). An answer is in the
journal when `record` returns; a sealed shard's journal is removed only after its part is durable.
"""

from collections.abc import Callable
from typing import Any

from batchrun.ledger import parts
from batchrun.ledger.durable import disk_faults, sync_dir
from batchrun.ledger.journal import Journal, Key, Line, Tally, reopen, replay
from batchrun.ledger.reuse import Pool
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Request, Result, Shard


class OpenShard:
    """A shard under way. `left` are the requests that still need a result, `results` those that have one."""

    def __init__(self, shard: Shard, journal: Journal) -> None:
        self.shard = shard
        self.journal = journal
        self.tallies: dict[Key, Tally] = {}
        self.left: list[Request] = []
        self.pending = 0


class Ledger:
    """`inputs_of` makes the input table of a shard, `cost_usd` prices a result when its shard is sealed."""

    def __init__(
        self,
        run_dir: RunDir,
        *,
        per_row: int,
        variant_names: list[str],
        inputs_of: Callable[[Shard], Any],
        cost_usd: Callable[[Result], float | None],
        raw: bool,
    ) -> None:
        self._dir = run_dir
        self._per_row = per_row
        self._places = {name: place for place, name in enumerate(variant_names)}
        self._inputs_of = inputs_of
        self._cost_usd = cost_usd
        self._raw = raw
        self._open: dict[int, OpenShard] = {}
        self.torn: list[str] = []

    def open(self, shard: Shard, requests: list[Request], unusable: list[Result]) -> tuple[OpenShard, list[Result]]:
        """Open a shard's journal and say what it already holds. `unusable` are results of rows that can't be asked.

        Returns the open shard and every result that it starts with.
        """
        path = self._dir.journal(shard.info.number)
        journal, found = reopen(path, shard.info.digest)
        if found.torn:
            self.torn.append(path.name)
        opened = OpenShard(shard, journal)
        opened.tallies = found.tallies
        done: list[Result] = []
        for result in unusable:
            if result.key not in found.results:
                opened.journal.append(Line(result=result))
            done.append(result)
        for request in requests:
            earlier = found.results.get(request.key)
            if earlier is not None and earlier.request_hash == request.hash:
                done.append(earlier)
                continue
            self._settle_crashed(opened, request.key)
            opened.left.append(request)
        opened.pending = len(opened.left)
        self._open[shard.info.number] = opened
        return opened, done

    def adopt(self, shard: Shard, requests: list[Request], unusable: list[Result], pool: Pool) -> list[Request]:
        """Take over earlier answers into a shard that is not under way. Returns the requests that are left to be asked.

        A shard that has all its results by this is sealed.
        """
        opened, _done = self.open(shard, requests, unusable)
        left: list[Request] = []
        for request in opened.left:
            drawn = pool.draw(request)
            if drawn is None:
                left.append(request)
            else:
                opened.journal.append(Line(result=drawn))
        if left:
            opened.journal.sync()
            opened.journal.close()
            del self._open[shard.info.number]
        else:
            self.seal(opened)
        return left

    def _settle_crashed(self, opened: OpenShard, key: Key) -> None:
        """An attempt that was under way when an earlier writer died was sent, and its answer lost."""
        tally = opened.tallies.get(key)
        if tally is not None:
            for _ in range(tally.under_way):
                tally.unconfirmed += 1
                opened.journal.append(Line(lost=(*key, 1)))

    def sent(self, opened: OpenShard, key: Key) -> None:
        """Before an attempt goes on the wire."""
        opened.tallies.setdefault(key, Tally()).sent += 1
        opened.journal.append(Line(sent=key))

    def lost(self, opened: OpenShard, key: Key, unconfirmed: bool) -> None:
        """After an attempt failed."""
        tally = opened.tallies[key]
        if unconfirmed:
            tally.unconfirmed += 1
        else:
            tally.failed += 1
        opened.journal.append(Line(lost=(*key, int(unconfirmed))))

    def record(self, opened: OpenShard, result: Result) -> bool:
        """Journal a result; True where it was the shard's last."""
        opened.journal.append(Line(result=result))
        opened.tallies.pop(result.key, None)
        opened.pending -= 1
        return opened.pending == 0

    def sync(self) -> None:
        """Make everything recorded so far survive a power loss."""
        for opened in list(self._open.values()):
            opened.journal.sync()

    def seal(self, opened: OpenShard) -> None:
        """Write a finished shard's part, then remove its journal. The journal is read back: it is the truth."""
        number = opened.shard.info.number
        opened.journal.sync()
        results = sorted(replay(opened.journal.path).results.values(), key=self._order)
        parts.write_part(
            self._dir.part(number), self._inputs_of(opened.shard), self._per_row, results, self._cost_usd, self._raw
        )
        del self._open[number]
        opened.journal.close()
        with disk_faults(opened.journal.path):
            opened.journal.path.unlink()
            sync_dir(self._dir.state)

    def close(self) -> None:
        """Sync and close what is still open: those shards go on another time."""
        for opened in self._open.values():
            opened.journal.sync()
            opened.journal.close()
        self._open.clear()

    def _order(self, result: Result) -> tuple[int, int, int]:
        return (result.row, self._places[result.variant], result.sample)
