"""One run of a job, from what an earlier run left to the finished results (contract.md §7).

The order of writes is what makes a crash harmless: the manifest says `running` before anything is moved, and `complete`
only after the results and the summary are durable. Every step can be cut short and taken again.
"""

import datetime
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from batchrun.assembly import Assembly, opened
from batchrun.chat.transport import Transport, proxy_for
from batchrun.clock import SystemClock
from batchrun.engines import local
from batchrun.errors import JobError
from batchrun.judge.estimate import Estimate
from batchrun.judge.prices import Prices, usd
from batchrun.ledger import parts
from batchrun.ledger.durable import write_whole
from batchrun.ledger.journal import replay
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.reconcile import Shards, reconcile, reopen_failed
from batchrun.ledger.reuse import Pool, result_files
from batchrun.ledger.run_dir import Counts, Manifest, RunDir
from batchrun.pace.guard import Guard
from batchrun.pace.limits import Limits
from batchrun.pace.retry import retrying
from batchrun.records import Complete, Result
from batchrun.report.summary import read_summary, write_summary
from batchrun.rows.files import InputFile
from batchrun.rows.source import Inventory
from batchrun.runner import Observer, Runner, Silent

RESULT_BYTES = 1500
"""About what a result takes on disk beside its input, journal and part together, for the warning before a run."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to. `exit_code` is contract.md §3's; `message` says why it stopped, None where it is complete.

    `asked` are the requests answered or failed in this call; the others had their result before.
    """

    path: str
    requests: int
    ok: int
    failed: int
    asked: int
    exit_code: int
    message: str | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cost summary, the total last; empty while the run is not complete."""
        path = RunDir(self.path).summary
        return read_summary(path) if path.exists() else []

    @property
    def cost_usd(self) -> float | None:
        """The whole bill; None where no price is known or the run is not complete."""
        rows = self.rows
        return rows[-1]["cost_usd"] if rows else None

    @property
    def results(self) -> Any:
        """The results so far as a pyarrow Table, with the columns of contract.md §6."""
        return parts.read_table(RunDir(self.path).result_files())


class Remembered(msgspec.Struct, frozen=True):
    """.state/inventory.json: an inventory, what it holds for, and whether earlier answers were taken over into it."""

    files: tuple[InputFile, ...]
    settings: str
    requests: str
    inventory: Inventory
    reuse: tuple[str, ...] = ()
    adopted: bool = False


class Session:
    """A run under way. The run directory's lock is held by the caller."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._dir = assembly.run_dir
        self._note = assembly.note
        self._reuse = tuple(assembly.job.reuse)

    async def run(
        self,
        *,
        fresh: bool,
        retry_failed: bool,
        observer: Callable[[int, Prices], Observer] | None,
        transport: Transport | None,
        grace_s: float,
        signals: bool,
    ) -> Outcome:
        """Run or go on."""
        if fresh and (aside := self._dir.set_aside()) is not None:
            self._note(f"the old run is set aside in {aside}")
        manifest = self._dir.read_manifest()
        inventory = await anyio.to_thread.run_sync(self._inventory)
        shards = Shards(self._assembly.shape(), inventory.shards)
        known = known_shards(self._dir)
        unchanged = manifest is not None and manifest.state == "complete" and known == shards and self._whole(inventory)
        if manifest is not None and unchanged and not (retry_failed and manifest.counts.failed):
            self._note("nothing to do: the run is complete, and neither the job nor its input has changed")
            self._drop_parts()
            return _outcome(self._dir, manifest.counts, 0, None)
        started = None if manifest is None else datetime.datetime.fromisoformat(manifest.started_at)
        manifest = self._assembly.manifest("running", inventory, started or datetime.datetime.now(datetime.UTC))
        await anyio.to_thread.run_sync(self._prepare, known, shards, inventory, manifest, retry_failed)
        watcher = observer(manifest.counts.requests, self._assembly.prices) if observer is not None else Silent()
        counter = _Counting(watcher)
        ledger = self._assembly.ledger(inventory)
        try:
            with self._assembly.live_url() as url:
                if transport is None and (proxy := proxy_for(url)) is not None:
                    self._note(f"through the proxy {proxy.rpartition('@')[2]} (from the environment)")
                async with opened(transport, url) as wire:
                    message, code = await self._pass(url, wire, ledger, inventory, counter, grace_s, signals)
        finally:
            await anyio.to_thread.run_sync(ledger.close)
        for torn in ledger.torn:
            self._note(f"{torn}: an unfinished last record was dropped (the writer had died in it)")
        if message is not None:
            stopped = msgspec.structs.replace(manifest, state="stopped", message=message, counts=counter.counts)
            self._dir.write_manifest(stopped)
            return msgspec.structs.replace(_outcome(self._dir, counter.counts, counter.asked, message), exit_code=code)
        counts = await anyio.to_thread.run_sync(self._finish, manifest, inventory)
        return _outcome(self._dir, counts, counter.asked, None)

    def _inventory(self) -> Inventory:
        """The input's inventory: the remembered one where no file has changed since, else a new scan."""
        stored = remembered(self._dir)
        files, settings = self._assembly.source.files, self._assembly.settings()
        if stored is not None and stored.files == files and stored.settings == settings:
            return stored.inventory
        return self._assembly.source.scan(self._assembly.fault)

    def _whole(self, inventory: Inventory) -> bool:
        """Whether the results that a complete run promises are there."""
        if self._assembly.job.output.single_file:
            return self._dir.results.exists()
        return self._dir.sealed() == {info.number for info in inventory.shards}

    def _prepare(
        self, known: Shards | None, shards: Shards, inventory: Inventory, manifest: Manifest, retry_failed: bool
    ) -> None:
        self._dir.write_manifest(manifest)
        stored = remembered(self._dir)
        reconcile(self._dir, known, shards)
        adopted = stored is not None and stored.adopted and known == shards and stored.reuse == self._reuse
        self._remember(inventory, adopted)
        if retry_failed:
            count = reopen_failed(self._dir, shards)
            self._note(f"{count} failed requests are asked again" if count else "no failed requests to ask again")
        self._tell_in_flight(inventory)
        if not adopted:
            self._adopt(inventory, changed=known is not None)
            self._remember(inventory, True)
        self._warn_of_space(inventory)

    def _remember(self, inventory: Inventory, adopted: bool) -> None:
        assembly = self._assembly
        record = Remembered(
            assembly.source.files, assembly.settings(), assembly.shape(), inventory, self._reuse, adopted
        )
        write_whole(self._dir.inventory, msgspec.json.encode(record))

    def _tell_in_flight(self, inventory: Inventory) -> None:
        """After a crash: how many requests were under way, and what they may have cost."""
        estimate = Estimate(self._assembly.prices)
        count = 0
        for number in sorted(self._dir.open_journals()):
            lost = replay(self._dir.journal(number)).in_flight()
            if lost:
                count += sum(lost.values())
                requests, _unusable = self._assembly.requests_of(self._assembly.source.read(inventory.shards[number]))
                for request in requests:
                    for _ in range(lost.get(request.key, 0)):
                        estimate.add(request)
        if count:
            ceiling = estimate.ceiling_cost
            bill = (
                "they may have been billed" if ceiling is None else f"at most ${usd(ceiling):.4f} may have been billed"
            )
            self._note(f"{count} requests were in flight when the run broke off: {bill}; they are asked again")

    def _adopt(self, inventory: Inventory, *, changed: bool) -> None:
        """Take over every earlier answer that still answers a request; say what is kept and what is asked anew."""
        folders = [Path(path) for path in self._reuse]
        for folder in folders:
            if not result_files(folder):
                raise JobError(f"reuse: {folder}: no results there; name a run directory")
        folders += sorted(self._dir.superseded.glob("*"))
        offered = [path for folder in folders for path in result_files(folder)]
        if not offered and not changed:
            return
        assembly, per_row = self._assembly, self._assembly.builder.per_row
        sealed = self._dir.sealed()
        kept = sum(info.rows for info in inventory.shards if info.number in sealed) * per_row
        estimate = Estimate(assembly.prices)
        ledger = assembly.ledger(inventory)
        pool = Pool(self._dir.state / "reuse.sqlite", offered, result_files(self._dir.path))
        try:
            for info in inventory.shards:
                if info.number not in sealed:
                    shard = assembly.source.read(info)
                    requests, unusable = assembly.requests_of(shard)
                    left = ledger.adopt(shard, requests, unusable, pool)
                    kept += len(requests) - len(left)
                    for request in left:
                        estimate.add(request)
        finally:
            pool.close()
            ledger.close()
        cost = estimate.prompt_cost
        price = "" if cost is None else f" (about ${usd(cost):.4f} for their prompts)"
        self._note(f"{kept} answers are kept, {estimate.requests} requests are asked anew{price}")

    def _warn_of_space(self, inventory: Inventory) -> None:
        """Compare what the rest of the run is likely to take with what is free."""
        sealed = self._dir.sealed()
        left = sum(info.rows for info in inventory.shards if info.number not in sealed)
        if not left:
            return
        size = sum(file.size for file in inventory.files)
        need = (size // inventory.rows + RESULT_BYTES) * left * self._assembly.builder.per_row * 2
        free = shutil.disk_usage(self._dir.path).free
        if need > free:
            self._note(
                f"warning: about {need / 1e9:.1f} GB may be needed, and {free / 1e9:.1f} GB are free on {self._dir.path}; "
                "a full disk stops the run, and freeing space lets it go on"
            )

    async def _pass(
        self,
        url: str,
        wire: Transport,
        ledger: Ledger,
        inventory: Inventory,
        watcher: "_Counting",
        grace_s: float,
        signals: bool,
    ) -> tuple[str | None, int]:
        """Ask what is left; returns (why it stopped or None, exit code)."""
        clock = SystemClock()
        job = self._assembly.job
        assert isinstance(job.limits.concurrency, int)
        limits = Limits(job.limits.concurrency, job.limits.requests_per_minute, clock)
        guard = Guard(clock, watcher.pause, key_env=job.endpoint.api_key_env)

        def stack(announced: Complete) -> Complete:
            return retrying(guard.wrap(limits.wrap(guard.admit(announced))), job.retry, clock, watcher.retry)

        runner = Runner(
            read=self._assembly.source.read,
            build=self._assembly.requests_of,
            client=self._assembly.client(url, wire, raw=job.output.raw).complete,
            stack=stack,
            guard=guard,
            in_flight=lambda: limits.in_flight,
            ledger=ledger,
            endpoint=self._assembly.endpoint,
            concurrency=job.limits.concurrency,
            clock=clock,
            observer=watcher,
            grace_s=grace_s,
        )
        sealed = self._dir.sealed()
        done = sum(info.rows for info in inventory.shards if info.number in sealed)
        watcher.skip(done * self._assembly.builder.per_row)
        left = [info for info in inventory.shards if info.number not in sealed]
        async with _draining(runner, signals) as caught:
            await local.run(runner, left)
        if guard.fault is not None:
            return guard.message(), 3
        if caught.signal is not None:
            return f"interrupted by {caught.signal.name}; run the same command again to go on", 128 + caught.signal
        return None, 0

    def _finish(self, manifest: Manifest, inventory: Inventory) -> Counts:
        """Parts → results.parquet → cost_summary.parquet → a manifest that says complete; then the parts may go."""
        job, prices = self._assembly.job, self._assembly.prices
        files = [self._dir.part(info.number) for info in inventory.shards]
        if job.output.single_file:
            parts.merge(files, self._dir.results, inventory.arrow_schema(), job.output.raw)
            files = [self._dir.results]
        ok, failed = write_summary(files, self._dir.summary, prices.cost, prices.source)
        counts = Counts(ok + failed, ok, failed)
        finished = datetime.datetime.now(datetime.UTC).isoformat()
        self._dir.write_manifest(
            msgspec.structs.replace(manifest, state="complete", finished_at=finished, counts=counts)
        )
        self._drop_parts()
        return counts

    def _drop_parts(self) -> None:
        if self._assembly.job.output.single_file:
            self._dir.drop_parts()


def remembered(run_dir: RunDir) -> Remembered | None:
    """What the run directory remembers of its input; None where there is nothing. Raises JobError."""
    try:
        return msgspec.json.decode(run_dir.inventory.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise JobError(f"{run_dir.inventory}: unreadable ({error}); start over with --fresh") from None


def known_shards(run_dir: RunDir) -> Shards | None:
    stored = remembered(run_dir)
    return None if stored is None else Shards(stored.requests, stored.inventory.shards)


class _Counting:
    """An observer that counts for the manifest and passes everything on."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._done = self._failed = self.asked = 0
        self.retry = inner.retry
        self.pause = inner.pause
        self.draining = inner.draining

    @property
    def counts(self) -> Counts:
        return Counts(self._done, self._done - self._failed, self._failed)

    def skip(self, requests: int) -> None:
        self._done += requests
        self._inner.skip(requests)

    def result(self, result: Result, *, stored: bool) -> None:
        self._done += 1
        self._failed += result.status != "ok"
        self.asked += not stored
        self._inner.result(result, stored=stored)


class _Caught:
    """The signal that told the run to stop, once there was one; a second one ends it at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    async def listen(self, runner: Runner) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            async for one in received:
                if self.signal is None:
                    self.signal = one
                    runner.stop()
                else:
                    runner.stop_now()


@asynccontextmanager
async def _draining(runner: Runner, enabled: bool) -> AsyncIterator[_Caught]:
    caught = _Caught()
    if not enabled:
        yield caught
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caught.listen, runner)
        yield caught
        tasks.cancel_scope.cancel()


def _outcome(run_dir: RunDir, counts: Counts, asked: int, message: str | None) -> Outcome:
    code = 1 if counts.failed else 0
    return Outcome(str(run_dir.path), counts.requests, counts.ok, counts.failed, asked, code, message)
