"""The ledger of one run: open shards with their journals, what is done in them, and their sealing.

Called from one event loop (`open`, `sent`, `lost`, `record`, `sync`) and from threads (`seal`). An answer is in the
journal when `record` returns; a sealed shard's journal is removed only after its part is durable. When the disk is full
a small reserve is let go, so that answers to what is in flight can still be written down, and the run is asked to stop.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from batchrun.clock import Clock
from batchrun.errors import EndpointError, LedgerError
from batchrun.ledger import durable, parts
from batchrun.ledger.account import account_in
from batchrun.ledger.journal import Journal, reopen
from batchrun.ledger.layout import Layout, Prompts
from batchrun.ledger.lines import Key, Line, Lost, Sent, Tally
from batchrun.ledger.lock import writer
from batchrun.ledger.replay import replay
from batchrun.ledger.reuse import Pool
from batchrun.ledger.run_dir import RunDir
from batchrun.money import Cost
from batchrun.records import Answer, Complete, Request, Result, Shard
from batchrun.stop import Stop, StopSign

KEPT = "paid.jsonl"
"""The journal of answers that were paid for and are no result."""
_RESERVE = "reserve"
_RESERVE_LEAST = 1 << 20
_RESERVE_EACH = 64 << 10
"""Bytes held back for the answer of one request in flight."""
_RESERVE_MOST = 64 << 20


class OpenShard:
    """A shard under way. `left` are the requests that still need a result, `pending` how many results are missing, `paid`
    the answers of an earlier call that nobody has judged to the end.
    """

    def __init__(
        self, shard: Shard, journal: Journal, tallies: dict[Key, Tally], paid: dict[Key, list[Result]]
    ) -> None:
        self.shard = shard
        self.journal = journal
        self.tallies = tallies
        self.paid = paid
        self.left: list[Request] = []
        self.pending = 0


class Ledger:
    """`inputs_of` makes the input table of a shard, `layout` says which columns its parts have, `prompts_of` what was sent
    for those results, where the layout keeps that.
    """

    def __init__(
        self,
        run_dir: RunDir,
        *,
        layout: Layout,
        per_row: int,
        variant_names: list[str],
        inputs_of: Callable[[Shard], Any],
        prompts_of: Callable[[Shard, Sequence[Result]], Prompts] | None = None,
    ) -> None:
        self._dir = run_dir
        self._layout = layout
        self._per_row = per_row
        self._places = {name: place for place, name in enumerate(variant_names)}
        self._inputs_of = inputs_of
        self._prompts_of = prompts_of
        self._open: dict[int, OpenShard] = {}
        self._reserve: durable.Reserve | None = None
        self._kept: Journal | None = None
        self._keeping = threading.Lock()
        self._stop: StopSign | None = None
        self._recorded = anyio.Event()
        self.torn: list[str] = []

    def begin(self, in_flight: int, stop: StopSign) -> None:
        """Before anything is asked: set the space aside that the answers to so many requests may need. `stop` is asked when
        the disk is full.
        """
        self._stop = stop
        size = min(_RESERVE_MOST, max(_RESERVE_LEAST, in_flight * _RESERVE_EACH))
        self._reserve = durable.Reserve(self._dir.state / f"{_RESERVE}-{writer()}", size)

    def open(self, shard: Shard, requests: list[Request], unusable: list[Result]) -> tuple[OpenShard, list[Result]]:
        """Open a shard's journal and take what it already holds. `unusable` are results of rows that can't be asked.

        Returns the open shard, and those of them that are new.
        """
        path = self._dir.journal(shard.info.number)
        journal, found = reopen(path, shard.info.digest)
        self._recorded.set()
        if found.torn:
            self.torn.append(path.name)
        opened = OpenShard(shard, journal, found.tallies, found.paid)
        new = [result for result in unusable if result.key not in found.results]
        for result in new:
            self._append(opened, Line(result=result))
        for request in requests:
            earlier = found.results.get(request.key)
            if earlier is not None and earlier.request_hash == request.hash:
                opened.paid.pop(request.key, None)
                continue
            self._settle_crashed(opened, request.key)
            opened.left.append(request)
        opened.pending = len(opened.left)
        self._open[shard.info.number] = opened
        return opened, new

    def adopt(self, shard: Shard, requests: list[Request], unusable: list[Result], pool: Pool) -> list[Request]:
        """Take over earlier answers into a shard that is not under way. Returns the requests that are left to be asked.

        A shard that has all its results by this is sealed.
        """
        opened, _new = self.open(shard, requests, unusable)
        left: list[Request] = []
        for request in opened.left:
            drawn = pool.draw(request)
            if drawn is not None:
                self._append(opened, Line(result=drawn))
                continue
            left.append(request)
            if request.key not in opened.tallies and (attempts := pool.draw_attempts(request)) is not None:
                self._append(opened, Line(carried=attempts))
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
                tally.lose()
                self._append(opened, Line(lost=Lost(*key, 1)))

    def sent(self, opened: OpenShard, request: Request, ceiling: int | None) -> None:
        """Before an attempt goes on the wire; `ceiling` is the most that it may cost, in pico-dollars."""
        key = request.key
        tally = opened.tallies.setdefault(key, Tally())
        tally.sent += 1
        tally.ceiling = ceiling
        self._append(opened, Line(sent=Sent(*key, request.hash, ceiling)))

    def lost(self, opened: OpenShard, key: Key, unconfirmed: bool, kind: str = "", cost: Cost | None = None) -> None:
        """After an attempt failed, with a fault of this kind; `cost` is what it is known to have cost all the same."""
        tally = opened.tallies[key]
        if unconfirmed:
            tally.lose()
        else:
            tally.failed += 1
        tally.pay(cost)
        self._append(opened, Line(lost=Lost(*key, int(unconfirmed), kind, cost)))

    def paid(self, opened: OpenShard, result: Result) -> None:
        """Before an answer is judged: it is the result that it would be. It becomes that by `record`; or another attempt
        follows it, and it is kept beside the results.
        """
        opened.tallies[result.key].take(result)
        self._append(opened, Line(paid=result))

    def journalled(self, inner: Complete, ceiling: Callable[[Request], int | None], clock: Clock) -> Complete:
        """`inner`, each attempt told to the journal before it goes on the wire and after it failed. `ceiling` is the most
        that one may cost, in pico-dollars. Requests are those of open shards.
        """

        async def complete(request: Request) -> Answer:
            opened = self._open[request.shard]
            self.sent(opened, request, ceiling(request))
            opened.tallies[request.key].started_at = int(clock.epoch() * 1e6)
            try:
                return await inner(request)
            except EndpointError as error:
                self.lost(opened, request.key, error.unconfirmed, error.kind, error.cost)
                raise

        return complete

    def record(self, opened: OpenShard, result: Result) -> bool:
        """Journal a result; True where it was the shard's last."""
        self._append(opened, Line(result=result))
        opened.tallies.pop(result.key, None)
        opened.paid.pop(result.key, None)
        opened.pending -= 1
        return opened.pending == 0

    def _append(self, opened: OpenShard, line: Line) -> None:
        self._recorded.set()
        try:
            opened.journal.append(line)
        except LedgerError as error:
            if not durable.is_full(error) or self._reserve is None or not self._reserve.release():
                raise
            if self._stop is not None:
                self._stop.ask(Stop("disk", str(error)))
            opened.journal.append(line)

    async def recorded(self) -> None:
        """Return when something was recorded since the last `sync` began: it might not survive a power loss yet."""
        await self._recorded.wait()

    async def sync(self) -> None:
        """Make everything recorded so far survive a power loss."""
        self._recorded = anyio.Event()  # what is recorded while a thread syncs may come too late for it
        await anyio.to_thread.run_sync(self._sync)

    def _sync(self) -> None:
        for opened in list(self._open.values()):
            opened.journal.sync()

    def leave(self, opened: OpenShard) -> None:
        """Close the journal of a shard that goes on another time."""
        opened.journal.sync()
        del self._open[opened.shard.info.number]
        opened.journal.close()

    def seal(self, opened: OpenShard) -> None:
        """Write a finished shard's part, then remove its journal. The journal is read back: it is the truth."""
        number = opened.shard.info.number
        opened.journal.sync()
        found = replay(opened.journal.path)
        results = sorted(found.results.values(), key=self._order)
        inputs = self._inputs_of(opened.shard)
        part = self._dir.part(number)
        self._keep(found.outdated())  # where the part stands, the next run takes the journal away unread
        prompts = None if self._prompts_of is None else self._prompts_of(opened.shard, results)
        parts.write_part(part, self._layout, inputs, self._per_row, results, account_in(found), prompts)
        del self._open[number]
        opened.journal.close()
        durable.remove([opened.journal.path])

    def _keep(self, paid: list[Result]) -> None:
        """Nothing that was paid for is deleted: answers that became no result go on standing in a journal of their own, in
        which a death before their shard is sealed leaves them twice.
        """
        if not paid:
            return
        with self._keeping:
            if self._kept is None:
                self._kept, _found = reopen(self._dir.state / KEPT, "kept")
            for result in paid:
                self._kept.append(Line(paid=result))
            self._kept.sync()

    def close(self) -> None:
        """Sync and close what is still open: those shards go on another time."""
        faults: list[LedgerError] = []
        for opened in self._open.values():
            try:
                opened.journal.sync()
            except LedgerError as error:  # the others are still to be made durable
                faults.append(error)
            opened.journal.close()
        self._open.clear()
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        if self._reserve is not None:
            self._reserve.release()
        if faults:
            raise faults[0]

    def _order(self, result: Result) -> tuple[int, int, int]:
        return (result.row, self._places[result.variant], result.sample)
