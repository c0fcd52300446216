"""`plan` and `check`: what a run would do and cost, and what its first request gets. Nothing is written."""

import anyio.to_thread
import msgspec

from batchrun.errors import EndpointError, JobError
from batchrun.judge.estimate import Estimate
from batchrun.money import usd
from batchrun.pace.advice import advice
from batchrun.records import Answer, Request, StatedLimit
from batchrun.runner.assembly import Assembly, opened
from batchrun.runner.prepare import known_shards
from batchrun.wire.transport import Transport


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
    """One request and what came back: an answer, or the fault with the remedy where there is one.

    `limits` are what the endpoint stated of its own.
    """

    url: str
    request: Request
    answer: Answer | None
    fault: EndpointError | None = None
    remedy: str | None = None
    limits: list[StatedLimit] = []


def outlook(assembly: Assembly) -> Outlook:
    """Scan the input and estimate; nothing is sent or written."""
    estimate = Estimate(assembly.prices, assembly.endpoint)

    def weigh(requests: list[Request]) -> None:
        for request in requests:
            estimate.add(request)

    inventory = assembly.scan(weigh)
    per_row = assembly.builder.per_row
    requests = inventory.rows * per_row
    done = 0
    if known_shards(assembly.run_dir) == assembly.shards(inventory):
        manifest = assembly.run_dir.read_manifest()
        sealed = assembly.run_dir.sealed()
        complete = manifest is not None and manifest.state == "complete"
        done = sum(one.rows for one in inventory.shards if complete or one.number in sealed) * per_row
    left = requests - done
    limits = assembly.job.limits
    by_requests_s = left * 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
    tokens = estimate.prompt_tokens * left / max(1, requests)
    by_tokens_s = tokens * 60 / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
    return Outlook(
        path=assembly.run_dir.url,
        endpoint=assembly.url,
        rows=inventory.rows,
        bad_rows=inventory.bad_rows,
        variants=len(assembly.builder.variants),
        samples=assembly.builder.samples,
        requests=requests,
        done=done,
        prompt_tokens=estimate.prompt_tokens,
        most_completion_tokens=estimate.most_completion_tokens,
        prompt_usd=None if estimate.prompt_cost is None else usd(estimate.prompt_cost),
        most_usd=None if estimate.most_cost is None else usd(estimate.most_cost),
        price_source=estimate.price_source,
        at_least_s=max(by_requests_s, by_tokens_s) or None,
    )


async def trial(assembly: Assembly, transport: Transport | None) -> Trial:
    """Send the first request once."""
    request = await anyio.to_thread.run_sync(_first_request, assembly)
    with assembly.live_url() as url:
        async with opened(transport, url, assembly.note) as wire:
            limits: list[StatedLimit] = []
            client = assembly.client(url, wire, raw=True, on_limits=lambda _model, stated: limits.extend(stated))
            try:
                answer = await client.complete(request)
            except EndpointError as error:
                remedy = advice(error, assembly.key_name)
                return Trial(url, request, None, error, remedy, limits)
    return Trial(url, request, answer, limits=limits)


def _first_request(assembly: Assembly) -> Request:
    inventory = assembly.scan(lambda _requests: None)
    for info in inventory.shards:
        requests, _unusable = assembly.requests_of(assembly.source.read(info))
        if requests:
            return requests[0]
    raise JobError(f"{assembly.job.input.path}: no usable row in it")
