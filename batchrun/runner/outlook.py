"""`plan` and `check`: what a run would do and cost, and what its first request gets. Nothing is written."""

from collections.abc import Iterable

import anyio.to_thread
import msgspec

from batchrun.errors import EndpointError, JobError, Kind
from batchrun.judge.estimate import Estimate
from batchrun.money import usd
from batchrun.pace.advice import advice
from batchrun.records import Answer, Request, StatedLimit
from batchrun.runner.assembly import Assembly, opened
from batchrun.runner.remaining import remaining
from batchrun.wire.carrier import Transport

MOST_TRIALS = 20
"""So many requests `check` sends at most."""
_SHOWN = 3
_SAID = frozenset({"messages", "prompt", "input", "instructions"})
_UNAUTHORIZED = 401


class Forecast(msgspec.Struct, frozen=True):
    """What is left to ask of one model in one variant. Token counts are estimates, costs of them in USD; None is what has no
    bound or no known price. `unpriced` of the `left` requests are no part of the money.
    """

    variant: str
    model: str | None
    left: int
    prompt_tokens: int
    most_completion_tokens: int | None
    prompt_usd: float | None
    most_usd: float | None
    price_source: str | None
    unpriced: int


class Outlook(msgspec.Struct, frozen=True):
    """What a run would do. Of all its `requests` so many are `done`, `failed` of them a failure that stays one, and so many
    `left`; tokens, money and time are those of what is left, as in Forecast. `most_usd` takes `max_tokens` as used up.
    `unpriced_models` are those without a known price, `each` has a line for every variant and model.
    """

    path: str
    endpoint: str
    rows: int
    bad_rows: int
    variants: int
    samples: int
    requests: int
    done: int
    failed: int
    left: int
    prompt_tokens: int
    most_completion_tokens: int | None
    prompt_usd: float | None
    most_usd: float | None
    price_source: str | None
    unpriced: int
    unpriced_models: list[str]
    at_least_s: float | None
    each: list[Forecast]


class Trial(msgspec.Struct, frozen=True):
    """One request and what came back: an answer, or the fault with the remedy where there is one.

    `limits` are what the endpoint stated of its own. Of a sweep the first trial has the `others`: one request for each model and
    set of parameters.
    """

    url: str
    request: Request
    answer: Answer | None
    fault: EndpointError | None = None
    remedy: str | None = None
    limits: list[StatedLimit] = []
    others: list["Trial"] = []


def outlook(assembly: Assembly) -> Outlook:
    """Read the input and what the run directory holds, and estimate what is left; nothing is sent or written there."""
    builder, limits = assembly.builder, assembly.job.limits
    estimates: dict[tuple[str, str | None], Estimate] = {}

    def weigh(request: Request) -> None:
        key = (request.variant, request.model)
        if key not in estimates:
            estimates[key] = Estimate(assembly.prices, assembly.endpoint)
        estimates[key].add(request)

    found = remaining(assembly, weigh)
    total = Estimate(assembly.prices, assembly.endpoint)
    for estimate in estimates.values():
        total.take(estimate)
    by_requests_s = total.requests * 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
    by_tokens_s = total.prompt_tokens * 60 / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
    return Outlook(
        path=assembly.run_dir.url,
        endpoint=assembly.url,
        rows=found.inventory.rows,
        bad_rows=found.inventory.bad_rows,
        variants=len(builder.variants),
        samples=builder.samples,
        requests=found.inventory.rows * builder.per_row,
        done=found.done,
        failed=found.failed,
        left=total.requests,
        prompt_tokens=total.prompt_tokens,
        most_completion_tokens=total.most_completion_tokens,
        prompt_usd=_usd(total.prompt_cost),
        most_usd=_usd(total.most_cost),
        price_source=_sources(estimates.values()),
        unpriced=total.unpriced,
        unpriced_models=list(dict.fromkeys(str(model) for (_, model), one in estimates.items() if one.unpriced)),
        at_least_s=max(by_requests_s, by_tokens_s) or None,
        each=_each(assembly, estimates),
    )


def _each(assembly: Assembly, estimates: dict[tuple[str, str | None], Estimate]) -> list[Forecast]:
    """A line for every variant, with each model that is left to ask in it; those that are done too."""
    nothing = Estimate(assembly.prices, assembly.endpoint)
    lines = []
    for variant in assembly.builder.variants:
        of_it = {model: one for (name, model), one in estimates.items() if name == variant.name}
        for model, one in (of_it or {variant.params.get("model", assembly.job.endpoint.model): nothing}).items():
            lines.append(
                Forecast(
                    variant.name,
                    model,
                    one.requests,
                    one.prompt_tokens,
                    one.most_completion_tokens,
                    _usd(one.prompt_cost),
                    _usd(one.most_cost),
                    one.price_source,
                    one.unpriced,
                )
            )
    return lines


def _sources(estimates: Iterable[Estimate]) -> str | None:
    """Where the prices are from, each source once; the first few of many."""
    found = list(dict.fromkeys(one.price_source for one in estimates if one.price_source is not None))
    return ", ".join([*found[:_SHOWN], *(["…"] if len(found) > _SHOWN else [])]) or None


def _usd(cost: int | None) -> float | None:
    return None if cost is None else usd(cost)


async def trial(assembly: Assembly, transport: Transport | None) -> Trial:
    """Send the first row's request once; of a sweep one for each model and set of parameters, each model once before any
    is asked again, and no more than MOST_TRIALS.
    """
    requests = await anyio.to_thread.run_sync(_first_requests, assembly)
    if len(requests) > 1:
        most = f"; the first {MOST_TRIALS} are asked" if len(requests) > MOST_TRIALS else ""
        assembly.note(f"{len(requests)} variants differ in model or parameters: one request each{most}")
    found: list[Trial] = []
    with assembly.live_url() as url:
        async with opened(transport, url, assembly.note) as wire:
            for request in requests[:MOST_TRIALS]:
                found.append(await _one_trial(assembly, url, wire, request))
                fault = found[-1].fault
                if fault is not None and (fault.kind is Kind.CONNECT or _is_the_key_s(fault)):
                    break  # the others would meet it too
    return msgspec.structs.replace(found[0], others=found[1:])


async def _one_trial(assembly: Assembly, url: str, wire: Transport, request: Request) -> Trial:
    limits: list[StatedLimit] = []
    client = assembly.client(url, wire, raw=True, on_limits=lambda _model, stated: limits.extend(stated))
    try:
        answer = await client.complete(request)
    except EndpointError as error:
        return Trial(url, request, None, error, advice(error, assembly.key_name), limits)
    return Trial(url, request, answer, limits=limits)


def _is_the_key_s(fault: EndpointError) -> bool:
    return fault.kind is Kind.CREDENTIALS and fault.status == _UNAUTHORIZED and not fault.of_model


def _first_requests(assembly: Assembly) -> list[Request]:
    """The requests of the first row that differ in more than what they say: the first of each model, then the others."""
    inventory = assembly.scan(lambda _requests: None)
    for info in inventory.shards:
        requests, _unusable = assembly.requests_of(assembly.source.read(info))
        if requests:
            distinct = {_asked(one): one for one in reversed(requests) if one.key[:1] == requests[0].key[:1]}
            ordered = list(reversed(distinct.values()))
            first = {one.model: one for one in reversed(ordered)}
            return sorted(ordered, key=lambda one: one is not first[one.model])
    raise JobError(f"{assembly.job.input.path}: no usable row in it")


def _asked(request: Request) -> tuple[str, bytes, bool]:
    """What a request asks for, without what it says."""
    body = msgspec.json.decode(request.body)
    params = {name: value for name, value in body.items() if name not in _SAID}
    return request.path, msgspec.json.encode(params, order="deterministic"), request.stream
