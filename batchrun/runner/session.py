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
from batchrun.interrupts import Interrupts
from batchrun.judge.estimate import Ceiling, most_completion_tokens
from batchrun.judge.prices import Prices
from batchrun.ledger import parts
from batchrun.ledger.held import Held
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.run_dir import Counts, Manifest, RunDir
from batchrun.ledger.store import Stored
from batchrun.pace.guard import Guard
from batchrun.pace.limits import Limits
from batchrun.pace.pulse import Pulse
from batchrun.pace.retry import retrying
from batchrun.records import Complete
from batchrun.report.status import read_progress
from batchrun.report.summary import write_summary
from batchrun.rows.source import Inventory
from batchrun.runner.assembly import Assembly, opened
from batchrun.runner.observer import Counting, Observer
from batchrun.runner.outcome import Outcome
from batchrun.runner.prepare import Preparation
from batchrun.runner.window import Runner
from batchrun.wire.transport import Transport


class Session:
    """A run under way. The run directory's lock is held by the caller, who also hears of signals."""

    def __init__(self, assembly: Assembly, interrupts: Interrupts) -> None:
        self._assembly = assembly
        self._interrupts = interrupts
        self._dir = assembly.run_dir
        self._note = assembly.note

    async def run(
        self,
        *,
        fresh: bool,
        retried: frozenset[str] | None,
        observer: Callable[[int, Prices], Observer] | None,
        transport: Transport | None,
    ) -> Outcome:
        """Run or go on. `retried` are the kinds of failures that are asked again, all where empty, none for None."""
        check = anyio.from_thread.check_cancelled
        inventory: Inventory | None = None
        if fresh:
            inventory = await anyio.to_thread.run_sync(self._assembly.scan, lambda _requests: check())
            if inventory.rows and (aside := self._dir.set_aside()) is not None:
                self._note(f"the old run is set aside in {aside}")
        manifest = self._dir.read_manifest()
        if manifest is not None and manifest.in_vain and manifest.counts.failed:
            retried = frozenset()
        preparation = Preparation(self._assembly, check, retried=retried)
        if inventory is None:
            inventory = await anyio.to_thread.run_sync(preparation.inventory)
        if not inventory.rows:
            before = "" if manifest is None else "; the results of before stay as they are"
            what = (
                "the input has no rows"
                if self._assembly.job.input.where is None
                else "no row of the input fits `where`"
            )
            self._note(f"{what}: nothing is asked{before}")
            if manifest is not None:
                return msgspec.structs.replace(self._outcome(Counts(), 0), held=None)
        if manifest is not None and self._is_done(manifest, preparation, inventory, retried=retried):
            self._note("nothing to do: the run is complete, and neither the job nor its input has changed")
            self._drop_parts()
            return self._outcome(manifest.counts, 0)
        if not self._dir.is_local:
            self._note(f"the journal and the lock of {self._dir.url} are kept on this machine, in {self._dir.state}")
        manifest = self._assembly.manifest("running", inventory, None if manifest is None else manifest.started_at)
        try:
            self._dir.write_manifest(manifest)
        except LedgerError as error:  # nothing has been sent
            raise JobError(f"the output cannot be written: {error}") from None
        counter = Counting(self._dir.say)
        try:
            await anyio.to_thread.run_sync(preparation.settle, inventory)
            if observer is not None:
                counter.tell(observer(manifest.counts.requests, self._assembly.prices))
            message, code = await self._ask(inventory, counter, transport)
            if message is None:
                counts = await anyio.to_thread.run_sync(self._finish, manifest, inventory)
                return self._outcome(counts, counter.asked)
        except LedgerError as error:
            message, code = str(error), error.exit_code
        counts = await anyio.to_thread.run_sync(self._stop, manifest, message, code)
        if counts.failed and code == LedgerError.exit_code:
            asked = "--retry-failed asks them too" if counts.ok else "and are asked again too"
            message = f"{message}; {counts.failed} had failed before that, {asked}"
        return msgspec.structs.replace(
            self._outcome(counts, counter.asked),
            message=message,
            exit_code=code,
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
        self, inventory: Inventory, counter: Counting, transport: Transport | None
    ) -> tuple[str | None, int]:
        """Ask what is left; returns (why it stopped or None, exit code)."""
        ledger = self._assembly.ledger(inventory)
        try:
            with self._assembly.live_url() as url:
                async with opened(transport, url, self._note) as wire:
                    ended = await self._pass(url, wire, ledger, inventory, counter)
            await anyio.to_thread.run_sync(ledger.close)
        except JobError as error:  # the input is not what it was: the rows that were asked have their answers
            ledger.close()
            return str(error), LedgerError.exit_code
        except BaseException:
            with contextlib.suppress(LedgerError):  # the first fault is the one to tell of
                ledger.close()
            raise
        for torn in ledger.torn:
            self._note(f"{torn}: an unfinished last record was dropped (the writer had died in it)")
        return ended

    async def _pass(
        self, url: str, wire: Transport, ledger: Ledger, inventory: Inventory, watcher: Counting
    ) -> tuple[str | None, int]:
        clock = SystemClock()
        job = self._assembly.job
        assert isinstance(job.limits.concurrency, int)
        ledger.hold_back(job.limits.concurrency)
        pulse = Pulse(clock, lambda: runner.is_last())  # noqa: PLW0108 - made below
        guard = Guard(
            clock,
            watcher.pause,
            watcher.resume,
            key_env=self._assembly.key_name,
            is_last=lambda: watcher.ok > 0 and runner.is_last_again(),
            scout=lambda: runner.scout(),  # noqa: PLW0108 - made below
            pulse=pulse,
        )
        limits = Limits(
            job.limits.concurrency,
            job.limits.requests_per_minute,
            clock,
            tokens_per_minute=job.limits.tokens_per_minute,
            bound=most_completion_tokens,
            admit=guard.check,
            on_wait=watcher.waiting,
            on_learnt=watcher.learnt,
        )

        def stack(announced: Complete) -> Complete:
            attempts = guard.wrap(limits.wrap(guard.admit(announced)))
            return retrying(attempts, job.retry, clock, watcher.retry, guard.suspend, pulse)

        runner = Runner(
            read=self._assembly.source.read,
            build=self._assembly.requests_of,
            client=self._assembly.client(url, wire, raw=job.output.raw, on_limits=limits.learn).complete,
            stack=stack,
            guard=guard,
            in_flight=lambda: limits.in_flight,
            ledger=ledger,
            ceiling=Ceiling(self._assembly.prices, self._assembly.endpoint),
            endpoint=self._assembly.endpoint,
            concurrency=job.limits.concurrency,
            clock=clock,
            observer=watcher,
            grace_s=job.timeouts.drain,
        )
        sealed = self._dir.sealed()
        done = sum(info.rows for info in inventory.shards if info.number in sealed)
        watcher.skip(done * self._assembly.builder.per_row)
        self._interrupts.drains = runner
        try:
            await local.run(runner, [info for info in inventory.shards if info.number not in sealed])
        finally:
            self._interrupts.drains = None
        if self._interrupts.signal is not None:
            return self._interrupts.message, self._interrupts.exit_code
        if guard.fault is not None:
            return guard.message(), 3
        return None, 0

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
        counts = Counts(ok + failed, ok, failed)
        finished = datetime.datetime.now(datetime.UTC).isoformat()
        self._dir.write_manifest(
            msgspec.structs.replace(manifest, state="complete", finished_at=finished, counts=counts)
        )
        self._drop_parts()
        return counts

    def _stop(self, manifest: Manifest, message: str, code: int) -> Counts:
        counts = manifest.counts
        # on a disk that is full or broken the manifest can't be written either: `status` then says `interrupted`
        with contextlib.suppress(LedgerError):
            done = read_progress(self._dir)
            counts = Counts(counts.requests, done.tally.ok, sum(done.tally.failed.values()))
            in_vain = code == LedgerError.exit_code and not counts.ok
            self._dir.write_manifest(
                msgspec.structs.replace(manifest, state="stopped", message=message, counts=counts, in_vain=in_vain)
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


def interrupted(run_dir: RunDir, interrupts: Interrupts) -> Outcome:
    """The outcome of a run that a signal cut short outside of its asking: while it scanned, prepared or merged. The lock
    is held by the caller.
    """
    manifest = run_dir.read_manifest()
    counts = Counts() if manifest is None else manifest.counts
    if manifest is not None and manifest.state == "running":
        with contextlib.suppress(LedgerError):
            run_dir.write_manifest(msgspec.structs.replace(manifest, state="stopped", message=interrupts.message))
    return Outcome(
        run_dir.url,
        counts.requests,
        counts.ok,
        counts.failed,
        0,
        interrupts.exit_code,
        interrupts.message,
        Held(run_dir),
    )


def _checked(files: list[Stored]) -> Iterator[Stored]:
    for file in files:
        anyio.from_thread.check_cancelled()
        yield file
