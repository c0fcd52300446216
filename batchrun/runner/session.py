"""One run of a job, from what an earlier run left to the finished results (contract.md §7).

The order of writes is what makes a crash harmless: the manifest says `running` before anything is moved, and `complete`
only after the results and the summary are durable. Every step can be cut short and taken again.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from batchrun.clock import SystemClock
from batchrun.engines import local
from batchrun.errors import JobError, LedgerError
from batchrun.events import Began, Ended, Hear, Kept
from batchrun.interrupts import Interrupts
from batchrun.judge.prices import Prices
from batchrun.ledger import parts
from batchrun.ledger.held import Held
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.manifest import Counts, Manifest
from batchrun.ledger.orders import InForce
from batchrun.ledger.store import Stored
from batchrun.ledger.tally import Tally
from batchrun.report.log import Log
from batchrun.report.notify import Notifier
from batchrun.report.standing import Standing
from batchrun.report.status import read_progress
from batchrun.report.summary import write_summary
from batchrun.rows.source import Inventory
from batchrun.runner.assembly import Assembly, opened
from batchrun.runner.backlog import Backlog
from batchrun.runner.changes import Confirm, look
from batchrun.runner.control import Control
from batchrun.runner.counter import Counter
from batchrun.runner.notified import secret_names
from batchrun.runner.outcome import Outcome
from batchrun.runner.prepare import Preparation
from batchrun.runner.shards import ShardLoop
from batchrun.runner.stack import Stack
from batchrun.runner.stopped import counted
from batchrun.runner.watched import Watch
from batchrun.runner.window import Window
from batchrun.stop import Stop, StopSign
from batchrun.wire.carrier import Transport


class Session:
    """A run under way. The run directory's lock is held by the caller, who also hears of signals."""

    def __init__(self, assembly: Assembly, interrupts: Interrupts, watch: Watch) -> None:
        self._assembly = assembly
        self._watch = watch
        self._interrupts = interrupts
        self._dir = assembly.run_dir
        self._note = assembly.note
        self._steered: dict[str, float] = {}

    async def run(
        self,
        *,
        fresh: bool,
        retried: frozenset[str] | None,
        listener: Callable[[int, Prices], Hear] | None,
        transport: Transport | None,
        confirm: Confirm | None,
    ) -> Outcome:
        """Run or go on. `retried` are the kinds of failures that are asked again, all where empty, none for None."""
        check = anyio.from_thread.check_cancelled
        scanned: Inventory | None = None
        if fresh:
            scanned = await anyio.to_thread.run_sync(self._assembly.scan, lambda _requests: check())
            if scanned.rows and (aside := self._dir.set_aside()) is not None:
                self._note(f"the old run is set aside in {aside}")
        earlier = manifest = self._dir.read_manifest()
        unanswered = manifest is not None and manifest.nobody_answered
        if unanswered:
            retried = frozenset()
        preparation = Preparation(self._assembly, check, retried=retried)
        looked = (self._assembly, preparation, manifest, check)
        inventory, change = (scanned, None) if scanned else await anyio.to_thread.run_sync(look, *looked)
        if not inventory.rows:
            before = "" if manifest is None else "; earlier results stay as they are"
            what = (
                "the input has no rows"
                if self._assembly.job.input.where is None
                else "no row of the input fits `where`"
            )
            self._note(f"{what}: nothing is asked{before}")
            if manifest is not None:
                return msgspec.structs.replace(self._outcome(Counts(), 0), held=None)
        if manifest is not None and self._is_done(manifest, preparation, inventory, retried=retried):
            failed = manifest.counts.failed
            but = f"; {failed} failed requests stay so, --retry-failed asks them again" if failed else ""
            self._note(f"nothing to do: the run is complete, and neither the job nor its input has changed{but}")
            self._drop_parts()
            return self._outcome(manifest.counts, 0)
        if change is not None and inventory.rows:
            self._note(change.text)
            if confirm is not None and change.is_much:
                await confirm(change)
        if not self._dir.is_local:
            self._note(f"the journal and the lock of {self._dir.url} are kept on this machine, in {self._dir.state}")
        manifest = self._assembly.manifest("running", inventory, manifest)
        # until the failures are opened again: a call that dies before that leaves it to the next one
        manifest = msgspec.structs.replace(manifest, nobody_answered=unanswered)
        try:
            self._dir.write_manifest(manifest)
        except LedgerError as error:  # nothing has been sent
            raise JobError(f"the output cannot be written: {error}") from None
        earlier = earlier or manifest
        backlog = Backlog(
            others_ok=earlier.counts.ok > 0,
            gives_up=self._assembly.job.retry.unanswered == "fail",
        )
        notifier = Notifier(self._assembly.notify, self._dir.url, secret_names(self._assembly.job), self._note)
        listeners: list[Hear] = [Log(self._dir).hear, notifier.hear, *self._watch.listeners]
        clock = SystemClock()
        counter = Counter(self._dir.say, listeners, Standing(now=clock.now, epoch=clock.epoch))
        try:
            await anyio.to_thread.run_sync(preparation.settle, inventory)
            if unanswered:
                manifest = msgspec.structs.replace(manifest, nobody_answered=False)
                self._dir.write_manifest(manifest)
            if listener is not None:
                listeners.append(listener(manifest.counts.requests, self._assembly.prices))
            resumed = earlier is not manifest
            counter.hear(Began(manifest.counts.requests, resumed, resumed and earlier.state == "running"))
            counter.hear(await anyio.to_thread.run_sync(self._kept))
            stop = await self._ask(inventory, backlog, counter, transport)
            manifest = msgspec.structs.replace(manifest, steered=self._steered)
            if stop is None:
                counts = await anyio.to_thread.run_sync(self._finish, manifest, inventory)
                counter.hear(Ended(counts.ok, counts.failed, exit_code=1 if counts.failed else 0))
                await anyio.to_thread.run_sync(notifier.finish)
                return self._outcome(counts, counter.standing.asked)
        except LedgerError as error:
            stop = Stop("disk", str(error), error.exit_code)
        counts = await anyio.to_thread.run_sync(self._stop, manifest, stop)
        counter.hear(Ended(counts.ok, counts.failed, stop.message, stop.exit_code))
        await anyio.to_thread.run_sync(notifier.finish)
        message = stop.message
        if counts.failed and stop.exit_code == LedgerError.exit_code:
            asked = "--retry-failed asks them too" if counts.ok else "and are asked again too"
            message = f"{message}; {counts.failed} had failed before that, {asked}"
        return msgspec.structs.replace(
            self._outcome(counts, counter.standing.asked),
            message=message,
            exit_code=stop.exit_code,
            held=Held(self._dir, opens=True),
            open_table=self._assembly.open_table(inventory),
        )

    def _is_done(
        self, manifest: Manifest, preparation: Preparation, inventory: Inventory, *, retried: frozenset[str] | None
    ) -> bool:
        """Whether an earlier call has done all that this one would, and its results are there."""
        if manifest.state != "complete" or (retried is not None and manifest.counts.failed):
            return False
        if not preparation.is_unchanged(inventory) or not self._dir.summary.exists():
            return False
        if self._assembly.job.output.single_file:
            return self._dir.results.exists()
        return self._dir.sealed() == {info.number for info in inventory.shards}

    async def _ask(
        self, inventory: Inventory, backlog: Backlog, counter: Counter, transport: Transport | None
    ) -> Stop | None:
        """Ask what is left; returns why it stopped, None where all is done."""
        stop = StopSign()
        ledger = self._assembly.ledger(inventory)
        try:
            with self._assembly.live_url() as url:
                async with opened(transport, url, self._note) as wire:
                    await self._pass(url, wire, ledger, inventory, stop, backlog, counter)
            await anyio.to_thread.run_sync(ledger.close)
        except BaseException:
            with contextlib.suppress(LedgerError):  # the first fault is the one to tell of
                ledger.close()
            raise
        for torn in ledger.torn:
            self._note(f"{torn}: an unfinished last record was dropped (the writer had died in it)")
        return stop.stop

    async def _pass(
        self,
        url: str,
        wire: Transport,
        ledger: Ledger,
        inventory: Inventory,
        stop: StopSign,
        backlog: Backlog,
        counter: Counter,
    ) -> None:
        assembly, job, hear = self._assembly, self._assembly.job, counter.hear
        assert isinstance(job.limits.concurrency, int)
        ledger.begin(job.limits.concurrency, stop)
        models = assembly.builder.models
        stack = Stack(job, SystemClock(), stop, backlog, hear, assembly.key_name, assembly.endpoint, models)
        self._watch.see(lambda: stack.health.in_flight)
        client = assembly.client(url, wire, raw=job.output.raw, on_limits=stack.limits.learn)
        complete = stack.around(client.complete, ledger, assembly.prices)
        health = stack.health
        window = Window(
            complete,
            lambda: health.in_flight,
            lambda: health.resting,
            backlog,
            ledger,
            stop,
            hear,
            job.limits.concurrency,
        )
        loop = ShardLoop(assembly.load, ledger, window, stop, hear, job.timeouts.drain)
        sealed = self._dir.sealed()
        self._interrupts.drains = stop
        left = [info for info in inventory.shards if info.number not in sealed]
        now = InForce(job.limits.concurrency, job.limits.requests_per_minute, job.retry.max_attempts)
        control = Control(self._dir, stack, window, stop, hear, self._keep, now)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(control.run)
                beside.start_soon(counter.keep_telling)
                await local.run(window, loop, left)
                if stop.stop is None and (absent := stack.models.stop) is not None:
                    stop.ask(absent)
                beside.cancel_scope.cancel()
        finally:
            self._interrupts.drains = None

    def _kept(self) -> Kept:
        """What the ledger holds before anything is asked."""
        tally = read_progress(self._dir).tally
        failed = sum(tally.failed.values())
        return Kept(tally.ok + failed, failed, tally.tokens, tally.cost, tally.unpriced)

    def _keep(self, in_force: InForce) -> None:
        """Keep limits that were changed in the manifest: a call from the directory alone goes on with them."""
        limits = {
            "concurrency": in_force.concurrency,
            "max_attempts": in_force.max_attempts,
            "requests_per_minute": in_force.requests_per_minute,
        }
        self._steered = {name: value for name, value in limits.items() if value is not None}
        with contextlib.suppress(LedgerError, JobError):  # a full disk: the end of the run writes it again
            if (manifest := self._dir.read_manifest()) is not None:
                self._dir.write_manifest(msgspec.structs.replace(manifest, steered=self._steered))

    def _finish(self, manifest: Manifest, inventory: Inventory) -> Counts:
        """Parts → results.parquet → cost_summary.parquet → a manifest that says complete; then the parts may go."""
        job = self._assembly.job
        files = [self._dir.part(info.number) for info in inventory.shards]
        if job.output.single_file:
            layout = self._assembly.layout(inventory)
            layout = msgspec.structs.replace(layout, without=parts.unused(_checked(files)))
            parts.merge(_checked(files), self._dir.results, layout)
            files = [self._dir.results]
        ok, failed = write_summary(_checked(files), self._dir.summary)
        anyio.from_thread.check_cancelled()
        counts, tally = Counts(ok + failed, ok, failed), Tally()
        for file in _checked(files) if counts.requests else ():
            tally.take(parts.read_tally(file))
        finished = datetime.datetime.now(datetime.UTC).isoformat()
        self._dir.write_manifest(
            msgspec.structs.replace(manifest, state="complete", finished_at=finished, counts=counts, tally=tally)
        )
        self._drop_parts()
        if text := tally.emptiness():
            self._note(f"{text}; [retry] empty says what becomes of those")
        return counts

    def _stop(self, manifest: Manifest, stop: Stop) -> Counts:
        counts = manifest.counts
        # on a disk that is full or broken the manifest can't be written either: `status` then says `interrupted`
        with contextlib.suppress(LedgerError):
            counts = counted(self._dir, counts.requests)
            nobody = stop.exit_code == LedgerError.exit_code and not counts.ok and counts.failed > 0
            self._dir.write_manifest(
                msgspec.structs.replace(
                    manifest,
                    state="stopped",
                    message=stop.message,
                    counts=counts,
                    nobody_answered=nobody,
                    stop=stop.kind,
                )
            )
        return counts

    def _drop_parts(self) -> None:
        if self._assembly.job.output.single_file:
            # the run is complete: parts that can't be removed are in nobody's way, and are tried again another time
            with contextlib.suppress(LedgerError):
                self._dir.drop_parts()

    def _outcome(self, counts: Counts, asked: int) -> Outcome:
        code = 1 if counts.failed else 0
        return Outcome(self._dir.url, counts.requests, counts.ok, counts.failed, asked, code, held=Held(self._dir))


def _checked(files: list[Stored]) -> Iterator[Stored]:
    for file in files:
        anyio.from_thread.check_cancelled()
        yield file
