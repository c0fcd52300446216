"""The parts of one job, put together: source, request builder, prices, client, ledger, run directory.

Says who gets whom, and decides nothing about a request, an answer or a file. What is done with the parts is session.py's
(a run) and outlook.py's (plan and check).
"""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

import batchrun
from batchrun.clock import SystemClock
from batchrun.embedded import embedded_endpoint
from batchrun.errors import JobError
from batchrun.job import Job, may_be_secret
from batchrun.judge.prices import Billed, Prices
from batchrun.ledger import parts
from batchrun.ledger.durable import disk_faults
from batchrun.ledger.identity import Identity, Shards, identity
from batchrun.ledger.layout import Layout, Prompts
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.manifest import Counts, Manifest
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.sealed import check_storable
from batchrun.ledger.swept import swept
from batchrun.records import EMBEDDINGS, Request, Result, Row, Shard, ShardInfo, StatedLimit
from batchrun.rows import columns
from batchrun.rows.plain import RowError
from batchrun.rows.requests import RequestBuilder, asked
from batchrun.rows.shelf import Shelved
from batchrun.rows.source import Inventory, Source
from batchrun.rows.sweep import differing
from batchrun.runner import notified, results
from batchrun.runner.doubts import Faults, refuse_same_prompt
from batchrun.runner.kept import KEY_FOR_A_NAME, to_keep
from batchrun.wire.address import completions_url
from batchrun.wire.carrier import Transport
from batchrun.wire.descriptors import room_for
from batchrun.wire.outgoing import read_headers
from batchrun.wire.proxy import proxy_for

EMBEDDED = "embedded:"
SHARD_REQUESTS = 2000
SHARD_REQUESTS_OF_FILES = 64
"""A shard's requests are in memory together, and one with a file in it may be many megabytes."""


class Assembly:
    """Everything of one job. Raises JobError for what is wrong with it, before anything is sent or written."""

    def __init__(self, job: Job, environ: Mapping[str, str], on_note: Callable[[str], None] | None = None) -> None:
        self.note = on_note or (lambda _message: None)
        self._given = job
        self.job = job = _fitted(job, self.note)
        self.given: dict[str, Any] = {}  # the settings beside its source that shape a request
        self.goes_on = False  # whether its source is the run directory itself
        self.memory: object = None  # of rows in memory: what holds their file, as long as anybody may read it
        base_url = job.endpoint.base_url
        if not base_url:
            raise JobError("no endpoint: give --base-url, or [endpoint] base_url in the job (`embedded:` needs no key)")
        self._embedded = base_url == EMBEDDED
        self.url = EMBEDDED if self._embedded else completions_url(base_url)
        self.endpoint = job.endpoint.name or ("embedded" if self._embedded else urlsplit(self.url).netloc)
        self.notify = notified.checked(job, environ, self.note)
        self._headers = read_headers(job.endpoint.headers, environ)
        own = self._headers.has_key and job.endpoint.api_key_env is None
        self._key = None if self._embedded or own else _key(job, environ)
        self.builder = RequestBuilder(job)
        most = SHARD_REQUESTS_OF_FILES if self.builder.reads_files else SHARD_REQUESTS
        per_row = self.builder.per_row
        self.source = Source(job.input, max(1, most // per_row), self.builder.columns, per_row)
        for note in self.source.notes:
            self.note(note)
        self.prices = Prices(job.prices, {self.endpoint: self.url})
        assert job.output.path is not None
        if not job.output.path.isprintable():
            raise JobError(f"the output's name {job.output.path!r} is no printable text; choose another with -o")
        self.run_dir = RunDir(job.output.path, job.output.state)

    @property
    def key_name(self) -> str:
        """Where the key is looked for, for a message about one that is refused."""
        name = self.job.endpoint.api_key_env or "OPENAI_API_KEY"
        return name if self._key else f"{name}, which is not set"

    def client(
        self, url: str, wire: Transport, *, raw: bool, on_limits: Callable[[str, list[StatedLimit]], None]
    ) -> Billed:
        """The client of the endpoint; what it brings says what it cost."""
        from batchrun.wire.client import Client  # late: HTTP takes a while to load, and only what asks needs it

        job, clock = self.job, SystemClock()
        client = Client(
            url,
            wire,
            timeouts=job.timeouts,
            clock=clock,
            key=self._key,
            headers=self._headers.sent,
            secrets=self._headers.secrets,
            raw=raw,
            empty=job.retry.empty,
            split_think=job.output.split_think,
            on_limits=on_limits,
            endpoint=self.endpoint,
        )
        return Billed(client.complete, self.prices, self.endpoint, clock)

    def ledger(self, inventory: Inventory) -> Ledger:
        return Ledger(
            self.run_dir,
            layout=self.layout(inventory),
            per_row=self.builder.per_row,
            variant_names=[variant.name for variant in self.builder.variants],
            inputs_of=partial(self._inputs_of, inventory=inventory),
            prompts_of=self._prompts_of if self.job.output.prompt else None,
        )

    def open_table(self, inventory: Inventory) -> Callable[[int, list[Result]], Any]:
        """A function from a shard's number and some of its results to their table; of an input that is no longer there, or
        has changed, the columns stay empty.
        """
        layout, infos = self.layout(inventory), {info.number: info for info in inventory.shards}

        def table(number: int, found: list[Result]) -> Any:
            try:
                shard = self.source.read(infos[number])
            except JobError:
                return parts.unsealed(layout, None, (), found)
            rows = [row.index for row in shard.rows]
            prompts = self._prompts_of(shard, found) if layout.prompt else None
            return parts.unsealed(layout, self._inputs_of(shard, inventory), rows, found, prompts)

        return table

    def _inputs_of(self, shard: Shard, inventory: Inventory) -> Any:
        """The arrow table of a shard's input columns."""
        if shard.table is not None:
            with disk_faults(self.run_dir.state):
                return shard.table.table() if isinstance(shard.table, Shelved) else shard.table
        return columns.build([row.data for row in shard.rows], inventory.arrow_schema())

    def _prompts_of(self, shard: Shard, found: Sequence[Result]) -> Prompts:
        """What was sent for these results, as JSON: asked of the input once more, and left out where it is another now."""
        hashes = {one.key: one.request_hash for one in found}
        requests, _failed = self.requests_of(shard)
        return {one.key: asked(one) for one in requests if hashes.get(one.key) == one.hash}

    def load(self, info: ShardInfo) -> tuple[Shard, list[Request], list[Result]]:
        """A shard with its requests, and the failed results of rows that none can be built from. Columns that are only to be
        copied don't wait for the answers in memory.
        """
        shard = self.source.read(info)
        asked = self.requests_of(shard)
        if shard.table is not None:
            table = Shelved(shard.table, self.run_dir.state)
            shard = Shard(info, shard.rows if self.job.output.prompt else [], table)
        return shard, *asked

    def requests_of(self, shard: Shard) -> tuple[list[Request], list[Result]]:
        """A shard's requests, and the failed results of rows that none can be built from."""
        requests: list[Request] = []
        failed: list[Result] = []
        variants = [one.name for one in self.builder.variants]
        for row in shard.rows:
            try:
                requests += self.builder.build(row, shard.info.number)
            except RowError as error:
                failed += results.unusable(row, str(error), variants, self.builder.samples)
        return requests, failed

    def scan(self, see: Callable[[list[Request]], None]) -> Inventory:
        """Read the whole input once. `see` gets the requests of every row, none of one that can't be asked; it raises
        when the scan is to end.
        """
        embeddings = False
        faults = Faults()

        def fault(row: Row) -> str | None:
            nonlocal embeddings
            try:
                requests = self.builder.build(row)
            except RowError as error:
                see([])
                faults.add(row.where, str(error))
                return str(error)
            see(requests)
            faults.usable()
            embeddings = embeddings or requests[0].path == EMBEDDINGS
            return None

        said = len(self.source.notes)
        try:
            inventory = self.source.scan(fault)
        except JobError as error:
            raise faults.of_the_job() or error from None
        for note in self.source.notes[said:]:
            self.note(note)
        same = self.builder.same_for_all
        if same is not None and inventory.rows > 1 and not self.job.prompt.same:
            refuse_same_prompt(same, inventory.rows, inventory.arrow_schema().names)
        inventory = msgspec.structs.replace(inventory, embeddings=embeddings)
        check_storable(self.layout(inventory))
        return inventory

    def layout(self, inventory: Inventory) -> Layout:
        """The columns of the run's results."""
        output = self.job.output
        return Layout(
            inventory.arrow_schema(),
            raw=output.raw,
            embeddings=inventory.embeddings,
            prompt=output.prompt,
            swept=swept(differing(self.job)),
        )

    def identity(self, inventory: Inventory | None = None) -> Identity:
        """What the run's state holds for; its columns are known only from the inventory."""
        columns = "" if inventory is None else self.layout(inventory).fingerprint()
        return identity(self.job, self.source.files, columns)

    def shards(self, inventory: Inventory) -> Shards:
        return self.identity(inventory).shards(inventory.shards)

    def manifest(self, state: str, inventory: Inventory, earlier: Manifest | None) -> Manifest:
        """run.json for a call that begins now, and for a run that did with `earlier`."""
        started = None if earlier is None else earlier.started_at
        given = earlier.given if earlier is not None and self.goes_on else {}
        now = datetime.datetime.now(datetime.UTC).isoformat()
        names = ("httpx", "pyarrow", "msgspec", "genai-prices")
        versions = {name: importlib.metadata.version(name) for name in names}
        return Manifest(
            state=state,
            batchrun=batchrun.__version__,
            job=self.kept_job(),
            input=[{"path": file.name, "size": file.size, "stamp": file.stamp} for file in inventory.files],
            requests=self.identity().requests,
            started_at=started or now,
            resumed_at=now,
            counts=Counts(inventory.rows * self.builder.per_row),
            versions={"python": platform.python_version(), **versions},
            endpoint=self.url,
            state_dir=str(self.run_dir.state.absolute()),
            given={**given, **self.given},
        )

    def kept_job(self) -> dict[str, Any]:
        """The job as run.json keeps it."""
        return to_keep(self._given)

    @contextmanager
    def live_url(self) -> Iterator[str]:
        """The URL to POST to; the embedded endpoint lives as long as this."""
        if not self._embedded:
            yield self.url
            return
        with embedded_endpoint() as base_url:
            yield completions_url(base_url)


@asynccontextmanager
async def opened(given: Transport | None, url: str, note: Callable[[str], None]) -> AsyncIterator[Transport]:
    """The given transport, which stays its owner's, or one of our own for the length of the run. `note` hears of a proxy."""
    if given is not None:
        yield given
        return
    if (proxy := proxy_for(url, os.environ)) is not None:
        note(f"through the proxy {proxy.shown} (from {proxy.variable})")
    from batchrun.wire.transport import open_transport  # late, as above

    transport = open_transport(url)
    try:
        yield transport
    finally:
        with anyio.CancelScope(shield=True):
            await transport.aclose()


def _fitted(job: Job, note: Callable[[str], None]) -> Job:
    """The job with no more in flight than there is room for open files."""
    wanted = job.limits.concurrency
    if not isinstance(wanted, int) or (room := room_for(wanted)) >= wanted:
        return job
    note(
        f"the limit of open files (ulimit -n) leaves room for {room} requests in flight, not {wanted}: raise it for more"
    )
    return msgspec.structs.replace(job, limits=msgspec.structs.replace(job.limits, concurrency=room))


def _key(job: Job, environ: Mapping[str, str]) -> str | None:
    """The key's value. A variable that is named and not set is an error; the default one is used if it is set."""
    named = job.endpoint.api_key_env
    value = environ.get(named or "OPENAI_API_KEY", "").strip()
    if named and not value:
        if may_be_secret(named):
            raise JobError(KEY_FOR_A_NAME)
        raise JobError(
            f"the variable {named} (api_key_env) is not set; export {named}=… and run the same command again"
        )
    if not value.isascii() or not value.isprintable():
        raise JobError(
            f"the key in {named or 'OPENAI_API_KEY'} has characters that no HTTP header can carry; set it again"
        )
    return value or None
