"""One job put together: source, client, pacing, ledger and runner, and the way from an input to a finished run.

The only place that knows all wings. It decides nothing about a request, an answer or a file; it says who gets whom.
"""

import datetime
import hashlib
import importlib.metadata
import platform
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
import msgspec

import batchrun
from batchrun.chat.address import completions_url
from batchrun.chat.client import BYTES_PER_TOKEN, Client
from batchrun.chat.transport import open_transport, proxy_for
from batchrun.clock import SystemClock
from batchrun.embedded import embedded_endpoint
from batchrun.engines import local
from batchrun.errors import EndpointError, JobError
from batchrun.job import Job
from batchrun.judge.prices import Prices, priced_cost, usd
from batchrun.ledger import parts
from batchrun.ledger.durable import write_whole
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.reconcile import Shards, reconcile, reopen_failed
from batchrun.ledger.reuse import Pool
from batchrun.ledger.run_dir import Counts, Manifest, RunDir
from batchrun.pace.guard import Guard
from batchrun.pace.limits import Limits
from batchrun.pace.retry import retrying
from batchrun.records import Answer, Complete, Request, Result, Row, Shard
from batchrun.report.summary import read_summary, write_summary
from batchrun.rows import columns
from batchrun.rows.files import InputFile
from batchrun.rows.requests import RequestBuilder, RowError
from batchrun.rows.source import Inventory, Source
from batchrun.runner import Observer, Runner, Silent, unusable_results

EMBEDDED = "embedded:"
SHARD_REQUESTS = 2000


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


class Outlook(msgspec.Struct, frozen=True):
    """What a run would do. Token counts are estimates, costs of them in USD; `most_usd` takes `max_tokens` as used up."""

    path: str
    endpoint: str
    rows: int
    bad_rows: int
    variants: int
    samples: int
    requests: int
    done: int
    prompt_tokens: int
    most_completion_tokens: int | None
    prompt_usd: float | None
    most_usd: float | None
    price_source: str | None
    at_least_s: float | None


class Trial(msgspec.Struct, frozen=True):
    """One request and what came back: an answer, or the fault's kind and message."""

    url: str
    request: Request
    answer: Answer | None
    error_kind: str | None = None
    error_message: str | None = None


class Assembly:
    """Everything of one job. Raises JobError for what is wrong with it, before anything is sent or written."""

    def __init__(self, job: Job, environ: Mapping[str, str], on_note: Callable[[str], None] | None = None) -> None:
        self.job = job
        self._note = on_note or (lambda _message: None)
        base_url = job.endpoint.base_url
        if not base_url:
            raise JobError("no endpoint: give --base-url, or [endpoint] base_url in the job (`embedded:` needs no key)")
        self._embedded = base_url == EMBEDDED
        self._url = EMBEDDED if self._embedded else completions_url(base_url)
        self._endpoint = job.endpoint.name or ("embedded" if self._embedded else urlsplit(self._url).netloc)
        self._key = None if self._embedded else _key(job, environ)
        self._builder = RequestBuilder(job)
        self._source = Source(job.input, max(1, SHARD_REQUESTS // self._builder.per_row))
        self._prices = Prices(job.prices, self._url)
        assert job.output.path is not None
        self.run_dir = RunDir(job.output.path)

    async def run(
        self,
        *,
        fresh: bool,
        retry_failed: bool,
        observer: Callable[[int, Prices], Observer] | None,
        transport: httpx.AsyncBaseTransport | None,
        grace_s: float,
        signals: bool,
    ) -> Outcome:
        """Run or go on; the run directory's lock is held by the caller."""
        run_dir = self.run_dir
        if fresh and (aside := run_dir.set_aside()) is not None:
            self._note(f"the old run is set aside in {aside}")
        manifest = run_dir.read_manifest()
        inventory = await anyio.to_thread.run_sync(self._inventory)
        shards = Shards(self._shape(), inventory.shards)
        known = self._known_shards()
        if manifest is not None and manifest.state == "complete" and known == shards:
            counts = manifest.counts
            if not (retry_failed and counts.failed):
                self._note("nothing to do: the run is complete, and neither the job nor its input has changed")
                return _outcome(run_dir, counts, 0, None)
        started = datetime.datetime.now(datetime.UTC)
        if manifest is not None:
            started = datetime.datetime.fromisoformat(manifest.started_at)
        manifest = self._manifest("running", inventory, started)
        await anyio.to_thread.run_sync(self._prepare, known, shards, inventory, manifest, retry_failed)
        requests = inventory.rows * self._builder.per_row
        watcher = observer(requests, self._prices) if observer is not None else Silent()
        counter = _Counting(watcher)
        pool = await anyio.to_thread.run_sync(Pool, sorted(run_dir.superseded.glob("*")))
        ledger = self._ledger(pool, inventory)
        try:
            with self._live_url() as url:
                if transport is None and (proxy := proxy_for(url)) is not None:
                    self._note(f"through the proxy {proxy.rpartition('@')[2]} (from the environment)")
                async with _opened(transport, url) as wire:
                    message, code = await self._pass(url, wire, ledger, inventory, counter, grace_s, signals)
        finally:
            await anyio.to_thread.run_sync(ledger.close)
        for torn in ledger.torn:
            self._note(f"{torn}: an unfinished last record was dropped (the writer had died in it)")
        if ledger.reused:
            self._note(f"{ledger.reused} answers were taken over from before the job or its input changed")
        if message is not None:
            run_dir.write_manifest(
                msgspec.structs.replace(manifest, state="stopped", message=message, counts=counter.counts)
            )
            return msgspec.structs.replace(_outcome(run_dir, counter.counts, counter.asked, message), exit_code=code)
        counts = await anyio.to_thread.run_sync(self._finish, manifest, inventory)
        return _outcome(run_dir, counts, counter.asked, None)

    def outlook(self) -> Outlook:
        """Scan the input and reckon; nothing is sent or written."""
        sums = {"prompt": 0, "most": 0, "unknown": 0, "cost": 0, "most_cost": 0, "unpriced": 0}
        source: str | None = None

        def weigh(row: Row) -> str | None:
            nonlocal source
            fault = self._fault(row)
            if fault is not None:
                return fault
            for request in self._builder.build(row):
                body = msgspec.json.decode(request.body)
                prompt = -(-len(request.body) // BYTES_PER_TOKEN)
                most = body.get("max_completion_tokens") or body.get("max_tokens")
                sums["prompt"] += prompt
                sums["most"] += most if isinstance(most, int) else 0
                sums["unknown"] += not isinstance(most, int)
                rate = self._prices.rate(request.model)
                if rate is None:
                    sums["unpriced"] += 1
                    continue
                source = rate.source
                cost = priced_cost(rate, prompt, 0, most if isinstance(most, int) else 0)
                sums["cost"] += cost.input
                sums["most_cost"] += cost.total
            return None

        inventory = self._source.scan(weigh)
        requests = inventory.rows * self._builder.per_row
        known = self._known_shards()
        done = 0
        if known is not None and known == Shards(self._shape(), inventory.shards):
            manifest = self.run_dir.read_manifest()
            sealed = self.run_dir.sealed()
            complete = manifest is not None and manifest.state == "complete"
            done = sum(one.rows for one in inventory.shards if complete or one.number in sealed) * self._builder.per_row
        rpm = self.job.limits.requests_per_minute
        priced = source is not None and not sums["unpriced"]
        return Outlook(
            path=str(self.run_dir.path),
            endpoint=self._url,
            rows=inventory.rows,
            bad_rows=inventory.bad_rows,
            variants=len(self._builder.variants),
            samples=self._builder.samples,
            requests=requests,
            done=done,
            prompt_tokens=sums["prompt"],
            most_completion_tokens=None if sums["unknown"] else sums["most"],
            prompt_usd=usd(sums["cost"]) if priced else None,
            most_usd=usd(sums["most_cost"]) if priced and not sums["unknown"] else None,
            price_source=source,
            at_least_s=(requests - done) * 60 / rpm if rpm else None,
        )

    async def trial(self, transport: httpx.AsyncBaseTransport | None) -> Trial:
        """Send the first request once."""
        request = await anyio.to_thread.run_sync(self._first_request)
        with self._live_url() as url:
            async with _opened(transport, url) as wire:
                try:
                    answer = await self._client(url, wire, raw=True).complete(request)
                except EndpointError as error:
                    return Trial(url, request, None, error.kind, error.message)
        return Trial(url, request, answer)

    async def _pass(
        self,
        url: str,
        wire: httpx.AsyncBaseTransport,
        ledger: Ledger,
        inventory: Inventory,
        watcher: "_Counting",
        grace_s: float,
        signals: bool,
    ) -> tuple[str | None, int]:
        """Ask what is left; returns (why it stopped or None, exit code)."""
        clock = SystemClock()
        job = self.job
        assert isinstance(job.limits.concurrency, int)
        limits = Limits(job.limits.concurrency, job.limits.requests_per_minute, clock)
        guard = Guard(clock, watcher.pause)

        def stack(announced: Complete) -> Complete:
            return retrying(guard.wrap(limits.wrap(guard.admit(announced))), job.retry, clock, watcher.retry)

        runner = Runner(
            read=self._source.read,
            build=self._builder.build,
            unusable=self._unusable,
            row_fault=RowError,
            client=self._client(url, wire, raw=job.output.raw).complete,
            stack=stack,
            guard=guard,
            in_flight=lambda: limits.in_flight,
            ledger=ledger,
            endpoint=self._endpoint,
            concurrency=job.limits.concurrency,
            clock=clock,
            observer=watcher,
            grace_s=grace_s,
        )
        sealed = self.run_dir.sealed()
        watcher.skip(sum(one.rows for one in inventory.shards if one.number in sealed) * self._builder.per_row)
        left = [one for one in inventory.shards if one.number not in sealed]
        async with _draining(runner, signals) as caught:
            await local.run(runner, left)
        if guard.fault is not None:
            return guard.message(), 3
        if caught.signal is not None:
            return f"interrupted by {caught.signal.name}; run the same command again to go on", 128 + caught.signal
        return None, 0

    def _client(self, url: str, wire: httpx.AsyncBaseTransport, *, raw: bool) -> Client:
        job = self.job
        return Client(
            url,
            wire,
            timeouts=job.timeouts,
            clock=SystemClock(),
            key=self._key,
            headers=job.endpoint.headers,
            raw=raw,
        )

    def _ledger(self, pool: Pool, inventory: Inventory) -> Ledger:
        schema = inventory.arrow_schema()

        def inputs_of(shard: Shard) -> Any:
            return shard.table if shard.table is not None else columns.build([row.data for row in shard.rows], schema)

        return Ledger(
            self.run_dir,
            pool,
            per_row=self._builder.per_row,
            variant_names=[variant.name for variant in self._builder.variants],
            inputs_of=inputs_of,
            cost_usd=self._prices.cost_usd,
            raw=self.job.output.raw,
        )

    def _inventory(self) -> Inventory:
        """The input's inventory: the remembered one where no file has changed since, else a new scan."""
        stored = self._remembered()
        if stored is not None and stored.files == self._source.files and stored.settings == self._settings():
            return stored.inventory
        return self._source.scan(self._fault)

    def _prepare(
        self, known: Shards | None, shards: Shards, inventory: Inventory, manifest: Manifest, retry_failed: bool
    ) -> None:
        run_dir = self.run_dir
        reconcile(run_dir, known, shards)
        record = _Remembered(self._source.files, self._settings(), shards.requests, inventory)
        write_whole(run_dir.inventory, msgspec.json.encode(record))
        run_dir.write_manifest(manifest)
        if retry_failed:
            count = reopen_failed(run_dir, shards)
            self._note(f"{count} failed requests are asked again" if count else "no failed requests to ask again")

    def _finish(self, manifest: Manifest, inventory: Inventory) -> Counts:
        """Parts → results.parquet → cost_summary.parquet → a manifest that says complete; then the parts may go."""
        run_dir = self.run_dir
        files = [run_dir.part(info.number) for info in inventory.shards]
        if self.job.output.single_file:
            parts.merge(files, run_dir.results, inventory.arrow_schema(), self.job.output.raw)
            files = [run_dir.results]
        ok, failed = write_summary(files, run_dir.summary, self._prices.cost, self._prices.source)
        counts = Counts(ok + failed, ok, failed)
        finished = datetime.datetime.now(datetime.UTC).isoformat()
        run_dir.write_manifest(msgspec.structs.replace(manifest, state="complete", finished_at=finished, counts=counts))
        if self.job.output.single_file:
            run_dir.drop_parts()
        return counts

    def _fault(self, row: Row) -> str | None:
        try:
            self._builder.build(row)
        except RowError as error:
            return str(error)
        return None

    def _unusable(self, row: Row, message: str) -> list[Result]:
        return unusable_results(row, message, [one.name for one in self._builder.variants], self._builder.samples)

    def _first_request(self) -> Request:
        inventory = self._source.scan(self._fault)
        for info in inventory.shards:
            for row in self._source.read(info).rows:
                try:
                    return self._builder.build(row)[0]
                except RowError:
                    continue
        raise JobError(f"{self.job.input.path}: no usable row in it")

    def _settings(self) -> str:
        """What, besides the files, the inventory depends on."""
        job = self.job
        kept = (self._shape(), job.input.limit, job.input.on_bad_row)
        return _fingerprint(kept)

    def _shape(self) -> str:
        """The fingerprint of everything that shapes a request or its place."""
        job = self.job
        params = {key: value for key, value in job.params.items() if key not in ("stream", "stream_options")}
        kept = (
            params,
            job.prompt,
            job.sweep,
            job.variant,
            job.samples,
            job.endpoint.model,
            job.input.id,
            job.output.raw,
        )
        return _fingerprint(kept)

    def _remembered(self) -> "_Remembered | None":
        try:
            return msgspec.json.decode(self.run_dir.inventory.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise JobError(f"{self.run_dir.inventory}: unreadable ({error}); start over with --fresh") from None

    def _known_shards(self) -> Shards | None:
        stored = self._remembered()
        return None if stored is None else Shards(stored.requests, stored.inventory.shards)

    def _manifest(self, state: str, inventory: Inventory, started: datetime.datetime) -> Manifest:
        # header values may hold a key, so only their names are kept
        endpoint = msgspec.structs.replace(self.job.endpoint, headers=dict.fromkeys(self.job.endpoint.headers, "…"))
        job = msgspec.to_builtins(msgspec.structs.replace(self.job, endpoint=endpoint))
        names = ("httpx", "aiohttp", "pyarrow", "msgspec", "genai-prices")
        versions = {name: importlib.metadata.version(name) for name in names}
        return Manifest(
            state=state,
            batchrun=batchrun.__version__,
            job=job,
            input=[{"path": file.name, "size": file.size, "stamp": file.stamp} for file in inventory.files],
            requests=self._shape(),
            started_at=started.isoformat(),
            counts=Counts(inventory.rows * self._builder.per_row),
            versions={"python": platform.python_version(), **versions},
        )

    @contextmanager
    def _live_url(self) -> Iterator[str]:
        """The URL to POST to; the embedded endpoint lives as long as this."""
        if not self._embedded:
            yield self._url
            return
        with embedded_endpoint() as base_url:
            yield completions_url(base_url)


class _Remembered(msgspec.Struct, frozen=True):
    """.state/inventory.json: an inventory, and what it holds for."""

    files: tuple[InputFile, ...]
    settings: str
    requests: str
    inventory: Inventory


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


@asynccontextmanager
async def _opened(given: httpx.AsyncBaseTransport | None, url: str) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """The given transport, which stays its owner's, or one of our own for the length of the run."""
    if given is not None:
        yield given
        return
    transport = open_transport(url)
    try:
        yield transport
    finally:
        with anyio.CancelScope(shield=True):
            await transport.aclose()


def _key(job: Job, environ: Mapping[str, str]) -> str | None:
    """The key's value. A variable that is named and not set is an error; the default one is used if it is set."""
    named = job.endpoint.api_key_env
    value = environ.get(named or "OPENAI_API_KEY", "").strip()
    if named and not value:
        raise JobError(
            f"the variable {named} (api_key_env) is not set; export {named}=… and run the same command again"
        )
    if not value.isascii() or not value.isprintable():
        raise JobError(
            f"the key in {named or 'OPENAI_API_KEY'} has characters that no HTTP header can carry; set it anew"
        )
    return value or None


def _outcome(run_dir: RunDir, counts: Counts, asked: int, message: str | None) -> Outcome:
    code = 1 if counts.failed else 0
    return Outcome(str(run_dir.path), counts.requests, counts.ok, counts.failed, asked, code, message)


def _fingerprint(value: Any) -> str:
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
