"""results.parquet → cost_summary.parquet: one row for each (endpoint, model, variant), and one total (contract.md §6).

Money is summed as integers of pico-dollars: the sums equal those over results.parquet, added as decimals.
"""

from array import array
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import LedgerError
from batchrun.judge.prices import Cost, usd
from batchrun.ledger.parts import read_results
from batchrun.ledger.store import Stored
from batchrun.records import Result

SCHEMA = pa.schema(
    [
        ("endpoint", pa.string()),
        ("model", pa.string()),
        ("variant", pa.string()),
        *((name, pa.int64()) for name in ("requests", "ok", "failed", "attempts", "unconfirmed_attempts")),
        *((f"{name}_tokens", pa.int64()) for name in ("prompt", "cached", "completion", "reasoning", "total")),
        ("input_cost_usd", pa.float64()),
        ("output_cost_usd", pa.float64()),
        ("cost_usd", pa.float64()),
        ("price_source", pa.string()),
        ("latency_p50_s", pa.float64()),
        ("latency_p90_s", pa.float64()),
        ("latency_p99_s", pa.float64()),
        ("first_token_p50_s", pa.float64()),
        ("output_tokens_per_s", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
TOTAL = "total"
_SUMS = (
    "attempts",
    "unconfirmed_attempts",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
)


class _Group(msgspec.Struct):
    """The running sums of one row of the summary."""

    requests: int = 0
    ok: int = 0
    sums: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    input_cost: int = 0
    output_cost: int = 0
    sources: dict[str, None] = msgspec.field(default_factory=dict)
    unpriced: int = 0
    started: int | None = None
    finished: int | None = None

    def add(self, result: Result, cost: Cost | None, source: str | None) -> None:
        self.requests += 1
        self.ok += result.status == "ok"
        sums = self.sums
        for name in _SUMS:
            sums[name] += getattr(result, name) or 0
        if cost is not None:
            self.input_cost += cost.input
            self.output_cost += cost.output
        elif result.total_tokens:
            self.unpriced += 1
        if source is not None:
            self.sources[source] = None
        if result.started_at is not None:
            end = result.started_at + int((result.latency_s or 0.0) * 1e6)
            self.started = result.started_at if self.started is None else min(self.started, result.started_at)
            self.finished = end if self.finished is None else max(self.finished, end)


def write_summary(
    results: Iterable[Stored],
    target: Stored,
    cost: Callable[[Result], Cost | None],
    source: Callable[[Result], str | None],
) -> tuple[int, int]:
    """Write cost_summary.parquet from results; returns (ok, failed)."""
    groups: dict[tuple[str, str, str], _Group] = {}
    latencies: dict[tuple[str, str, str], tuple[array[float], array[float]]] = {}
    total = _Group()
    everything = (array("d"), array("d"))
    for file in results:
        for result in read_results(file, whole=False):
            key = (result.endpoint or "", result.model or "", result.variant)
            priced, origin = cost(result), source(result)
            group = groups.setdefault(key, _Group())
            timed = latencies.setdefault(key, (array("d"), array("d")))
            for one, (latency, first) in ((group, timed), (total, everything)):
                one.add(result, priced, origin)
                if result.status == "ok" and result.latency_s is not None:
                    latency.append(result.latency_s)
                if result.first_token_s is not None:
                    first.append(result.first_token_s)
    rows = [_row(*key, groups[key], *latencies[key]) for key in sorted(groups)]
    rows.append(_row("", TOTAL, "", total, *everything))
    with target.replacing() as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")
    return total.ok, total.requests - total.ok


def read_summary(file: Stored) -> list[dict[str, Any]]:
    """The rows of a cost summary, the total last."""
    try:
        with file.opened() as source:
            rows: list[dict[str, Any]] = pq.read_table(source).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(
            f"{file}: cannot be read: {error}; remove it and run the same command again: it is made anew"
        ) from error
    return rows


def _row(
    endpoint: str, model: str, variant: str, group: _Group, latency: "array[float]", first: "array[float]"
) -> dict[str, Any]:
    priced = bool(group.sources)
    ordered, firsts = sorted(latency), sorted(first)
    span = 0.0 if group.started is None or group.finished is None else (group.finished - group.started) / 1e6
    return {
        "endpoint": endpoint or None,
        "model": model or None,
        "variant": variant or None,
        "requests": group.requests,
        "ok": group.ok,
        "failed": group.requests - group.ok,
        **group.sums,
        "input_cost_usd": usd(group.input_cost) if priced else None,
        "output_cost_usd": usd(group.output_cost) if priced else None,
        "cost_usd": usd(group.input_cost + group.output_cost) if priced else None,
        "price_source": "; ".join(group.sources) + (f"; none for {group.unpriced} results" if group.unpriced else "")
        if priced
        else None,
        "latency_p50_s": _quantile(ordered, 0.5),
        "latency_p90_s": _quantile(ordered, 0.9),
        "latency_p99_s": _quantile(ordered, 0.99),
        "first_token_p50_s": _quantile(firsts, 0.5),
        "output_tokens_per_s": group.sums["completion_tokens"] / span if span > 0 else None,
        "started_at": group.started,
        "finished_at": group.finished,
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    """Nearest rank: a value that was really measured."""
    if not ordered:
        return None
    rank = max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)
    return ordered[min(len(ordered) - 1, rank)]
