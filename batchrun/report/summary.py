"""results.parquet → cost_summary.parquet: one row for each (endpoint, model, variant), and one total (contract.md §6).

Nothing is priced here: what the results cost stands in them, and is summed as integers of pico-dollars. Once written, the
file is held against the results' columns.
"""

import datetime
from array import array
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.errors import BooksError, LedgerError
from batchrun.ledger.parts import read_results, sums
from batchrun.ledger.store import Stored
from batchrun.money import pico, usd
from batchrun.records import Result

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
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
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_UNPRICED = b"batchrun.unpriced"
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
    """The running sums of one row of the summary. Money is in pico-dollars; `unshared` results have a cost of which nobody
    knows what its prompt cost. `reasons` are why some have no price.
    """

    requests: int = 0
    ok: int = 0
    sums: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    input_cost: int = 0
    cost: int = 0
    unshared: int = 0
    priced: int = 0
    unpriced: int = 0
    sources: dict[str, None] = msgspec.field(default_factory=dict)
    reasons: dict[str, None] = msgspec.field(default_factory=dict)
    started: int | None = None
    finished: int | None = None

    def add(self, result: Result) -> None:
        self.requests += 1
        self.ok += result.status == "ok"
        sums = self.sums
        for name in _SUMS:
            sums[name] += getattr(result, name) or 0
        self._pay(result)
        if result.started_at is not None:
            end = result.started_at + int((result.latency_s or 0.0) * 1e6)
            self.started = result.started_at if self.started is None else min(self.started, result.started_at)
            self.finished = end if self.finished is None else max(self.finished, end)

    def _pay(self, result: Result) -> None:
        if result.cost is not None:
            self.priced += 1
            self.cost += result.cost
            self.unshared += result.input_cost is None
            self.input_cost += result.input_cost or 0
            if result.price_source is not None:
                self.sources[result.price_source] = None
        elif result.total_tokens:
            self.unpriced += 1
            if result.price_source is not None:
                self.reasons[result.price_source] = None

    @property
    def price_source(self) -> str | None:
        """Where the prices are from, and how many answers have none."""
        if not self.unpriced:
            return "; ".join(self.sources) or None
        why = f" ({'; '.join(one.removeprefix('none: ') for one in self.reasons)})" if self.reasons else ""
        if self.priced:
            return "; ".join([*self.sources, f"none for {self.unpriced} results{why}"])
        return "; ".join(self.reasons) or None


def summed(results: Iterable[Result]) -> list[dict[str, Any]]:
    """The rows of a cost summary of these results, the total last; `unpriced` says how many of a row's results have no known
    price.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    latencies: dict[tuple[str, str, str], tuple[array[float], array[float]]] = {}
    total = _Group()
    everything = (array("d"), array("d"))
    for result in results:
        key = (result.endpoint or "", result.model or "", result.variant)
        group = groups.setdefault(key, _Group())
        timed = latencies.setdefault(key, (array("d"), array("d")))
        for one, (latency, first) in ((group, timed), (total, everything)):
            one.add(result)
            if result.status == "ok" and result.latency_s is not None:
                latency.append(result.latency_s)
            if result.first_token_s is not None:
                first.append(result.first_token_s)
    # in the order in which results name them first: a sweep's
    rows = [_row(*key, group, *latencies[key]) for key, group in groups.items()]
    return [*rows, _row("", TOTAL, "", total, *everything)]


def write_summary(results: Iterable[Stored], target: Stored) -> tuple[int, int]:
    """Write cost_summary.parquet from results, and hold it against them; returns (ok, failed).

    Raises BooksError where the file's sums are not those of the results' columns.
    """
    files = list(results)
    rows = summed(result for file in files for result in read_results(file, whole=False))
    unpriced = [row["unpriced"] for row in rows]
    with target.replacing() as temporary:
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        table = table.replace_schema_metadata({_UNPRICED: msgspec.json.encode(unpriced)})
        pq.write_table(table, temporary, compression="zstd")
    try:
        _check(files, read_summary(target))
    except BooksError:
        target.remove()
        raise
    return rows[-1]["ok"], rows[-1]["failed"]


def read_summary(file: Stored) -> list[dict[str, Any]]:
    """The rows of a cost summary, the total last; `unpriced` says how many of a row's results have no known price."""
    try:
        with file.opened() as source, pq.ParquetFile(source) as opened:
            table = opened.read()
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(
            f"{file}: cannot be read: {error}; remove it and run the same command again: it is made again"
        ) from error
    rows = _rows(table)
    kept = (table.schema.metadata or {}).get(_UNPRICED)
    counts = msgspec.json.decode(kept, type=list[int]) if kept else [0] * len(rows)
    return [{**row, "unpriced": count} for row, count in zip(rows, counts, strict=True)]


def _rows(table: Any) -> list[dict[str, Any]]:
    """A summary's rows; its times by arithmetic, since pyarrow would load pandas for them where that is installed."""
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    for name in times:
        seen = [chunk.view(pa.int64()) for chunk in table.column(name).chunks]
        table = table.set_column(table.column_names.index(name), name, pa.chunked_array(seen, pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in times:
            row[name] = None if row[name] is None else _EPOCH + datetime.timedelta(microseconds=row[name])
    return rows


def _check(files: Iterable[Stored], rows: list[dict[str, Any]]) -> None:
    """Hold the bill against the results: every sum, to the pico-dollar, of the total and of the rows above it."""
    counted = sums(files, (*_SUMS, "cost_usd"))
    for name, expected in counted.items():
        as_sum = pico if name == "cost_usd" else int
        for place, stated in (
            ("total", as_sum(rows[-1][name] or 0)),
            ("rows", sum(as_sum(row[name] or 0) for row in rows[:-1])),
        ):
            if stated != expected and not _is_past_doubles(name, stated, expected):
                raise BooksError(
                    f"cost_summary.parquet: {name} of its {place} is {_figure(name, stated)}, and results.parquet sums to "
                    f"{_figure(name, expected)}: the books don't agree. All answers are kept; please report this"
                )


def _is_past_doubles(name: str, stated: int, expected: int) -> bool:
    """Whether two sums of money differ by no more than the doubles in which they are written."""
    return name == "cost_usd" and abs(stated - expected) <= max(stated, expected) >> 50


def _figure(name: str, value: int) -> str:
    return f"${usd(value):.12f}" if name == "cost_usd" else str(value)


def _row(
    endpoint: str, model: str, variant: str, group: _Group, latency: "array[float]", first: "array[float]"
) -> dict[str, Any]:
    # nothing that was billed has cost nothing; what was, at an unknown price, has an unknown cost
    priced = group.priced > 0 or (group.requests > 0 and not group.unpriced)
    shared = priced and not group.unshared
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
        "input_cost_usd": usd(group.input_cost) if shared else None,
        "output_cost_usd": usd(group.cost - group.input_cost) if shared else None,
        "cost_usd": usd(group.cost) if priced else None,
        "price_source": group.price_source,
        "latency_p50_s": _quantile(ordered, 0.5),
        "latency_p90_s": _quantile(ordered, 0.9),
        "latency_p99_s": _quantile(ordered, 0.99),
        "first_token_p50_s": _quantile(firsts, 0.5),
        "output_tokens_per_s": group.sums["completion_tokens"] / span if span > 0 else None,
        "started_at": _moment(group.started),
        "finished_at": _moment(group.finished),
        "unpriced": group.unpriced,
    }


def _moment(microseconds: int | None) -> datetime.datetime | None:
    return None if microseconds is None else _EPOCH + datetime.timedelta(microseconds=microseconds)


def _quantile(ordered: list[float], share: float) -> float | None:
    """Nearest rank: a value that was really measured."""
    if not ordered:
        return None
    rank = max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)
    return ordered[min(len(ordered) - 1, rank)]
