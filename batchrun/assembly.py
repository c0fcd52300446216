"""The parts of one job, put together: source, request builder, prices, client, ledger, run directory.

Says who gets whom, and decides nothing about a request, an answer or a file. What is done with the parts is session.py's
(a run) and outlook.py's (plan and check).
"""

import datetime
import hashlib
import importlib.metadata
import platform
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

import batchrun
from batchrun.chat.address import completions_url
from batchrun.chat.client import Client
from batchrun.chat.transport import Transport, open_transport
from batchrun.clock import SystemClock
from batchrun.embedded import embedded_endpoint
from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.judge.prices import Prices
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.run_dir import Counts, Manifest, RunDir
from batchrun.records import Request, Result, Row, Shard
from batchrun.rows import columns
from batchrun.rows.requests import RequestBuilder, RowError
from batchrun.rows.source import Inventory, Source
from batchrun.runner import unusable_results

EMBEDDED = "embedded:"
SHARD_REQUESTS = 2000


class Assembly:
    """Everything of one job. Raises JobError for what is wrong with it, before anything is sent or written."""

    def __init__(self, job: Job, environ: Mapping[str, str], on_note: Callable[[str], None] | None = None) -> None:
        self.job = job
        self.note = on_note or (lambda _message: None)
        base_url = job.endpoint.base_url
        if not base_url:
            raise JobError("no endpoint: give --base-url, or [endpoint] base_url in the job (`embedded:` needs no key)")
        self._embedded = base_url == EMBEDDED
        self.url = EMBEDDED if self._embedded else completions_url(base_url)
        self.endpoint = job.endpoint.name or ("embedded" if self._embedded else urlsplit(self.url).netloc)
        self._key = None if self._embedded else _key(job, environ)
        self.builder = RequestBuilder(job)
        self.source = Source(job.input, max(1, SHARD_REQUESTS // self.builder.per_row))
        self.prices = Prices(job.prices, self.url)
        assert job.output.path is not None
        self.run_dir = RunDir(job.output.path)

    def client(self, url: str, wire: Transport, *, raw: bool) -> Client:
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

    def ledger(self, inventory: Inventory) -> Ledger:
        schema = inventory.arrow_schema()

        def inputs_of(shard: Shard) -> Any:
            return shard.table if shard.table is not None else columns.build([row.data for row in shard.rows], schema)

        return Ledger(
            self.run_dir,
            per_row=self.builder.per_row,
            variant_names=[variant.name for variant in self.builder.variants],
            inputs_of=inputs_of,
            cost_usd=self.prices.cost_usd,
            raw=self.job.output.raw,
        )

    def requests_of(self, shard: Shard) -> tuple[list[Request], list[Result]]:
        """A shard's requests, and the failed results of rows that none can be built from."""
        requests: list[Request] = []
        unusable: list[Result] = []
        variants = [one.name for one in self.builder.variants]
        for row in shard.rows:
            try:
                requests += self.builder.build(row)
            except RowError as error:
                unusable += unusable_results(row, str(error), variants, self.builder.samples)
        return requests, unusable

    def fault(self, row: Row) -> str | None:
        """Why a row can't become a request, or None."""
        try:
            self.builder.build(row)
        except RowError as error:
            return str(error)
        return None

    def settings(self) -> str:
        """What, besides the files, the inventory depends on."""
        job = self.job
        kept = (self.shape(), job.input.limit, job.input.on_bad_row)
        return _fingerprint(kept)

    def shape(self) -> str:
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

    def manifest(self, state: str, inventory: Inventory, started: datetime.datetime) -> Manifest:
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
            requests=self.shape(),
            started_at=started.isoformat(),
            counts=Counts(inventory.rows * self.builder.per_row),
            versions={"python": platform.python_version(), **versions},
        )

    @contextmanager
    def live_url(self) -> Iterator[str]:
        """The URL to POST to; the embedded endpoint lives as long as this."""
        if not self._embedded:
            yield self.url
            return
        with embedded_endpoint() as base_url:
            yield completions_url(base_url)


@asynccontextmanager
async def opened(given: Transport | None, url: str) -> AsyncIterator[Transport]:
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


def _fingerprint(value: Any) -> str:
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()
