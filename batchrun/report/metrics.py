"""The numbers of a call for Prometheus. A listener to its events that adds up, and is read when somebody asks.

Counters are of this call, from 0; what earlier calls did is in `status`. Labels are models, variants and kinds of faults: as
many as the job has.
"""

import bisect
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from batchrun.errors import JobError
from batchrun.events import Began, Done, Event, Held, Kept, Paused, Released, Resumed, Retried, Waiting
from batchrun.money import usd
from batchrun.records import Result

_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)
"""Upper bounds, in seconds."""


class Times:
    """Seconds, counted by the bucket that they fall into."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Bounds with how many are no longer, as Prometheus wants them."""
        found, below = [], 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class Seen:
    """What the requests of one model and variant came to."""

    def __init__(self) -> None:
        self.ok = self.failed = self.attempts = self.unconfirmed = self.cost = self.unpriced = 0
        self.tokens: Counter[str] = Counter()
        self.latency = Times()
        self.first_token = Times()

    def add(self, result: Result) -> None:
        if result.status == "ok":
            self.ok += 1
        else:
            self.failed += 1
        self.attempts += result.attempts
        self.unconfirmed += result.unconfirmed_attempts
        self.cost += result.cost or 0
        self.unpriced += result.cost is None and bool(result.total_tokens)
        tokens = self.tokens
        tokens["prompt"] += result.prompt_tokens or 0
        tokens["completion"] += result.completion_tokens or 0
        tokens["cached"] += result.cached_tokens or 0
        tokens["reasoning"] += result.reasoning_tokens or 0
        if result.latency_s is not None:
            self.latency.add(result.latency_s)
        if result.first_token_s is not None:
            self.first_token.add(result.first_token_s)


class Numbers:
    """The listener, and a collector of `prometheus_client`. `in_flight` says how many attempts are on the wire."""

    def __init__(self) -> None:
        self.in_flight: Callable[[], int] = int
        self._requests = self._done = 0
        self._seen: dict[tuple[str, str], Seen] = {}
        self._retries: Counter[str] = Counter()
        self._pauses: set[str] = set()

    def hear(self, event: Event) -> None:
        """Count one event."""
        match event:
            case Done():
                self._done += 1
                if event.asked:
                    result = event.result
                    key = (result.asked_model or result.model or "", result.variant)
                    seen = self._seen.get(key)
                    if seen is None:
                        seen = self._seen[key] = Seen()
                    seen.add(result)
            case Retried():
                self._retries[str(event.error.kind)] += 1
            case Began():
                self._requests = event.requests
            case Kept():
                self._done += event.requests
            case Paused():
                self._pauses.add("endpoint")
            case Waiting(probed=True):
                self._pauses.add("quota")
            case Resumed():
                self._pauses -= {"endpoint", "quota"}
            case Held():
                self._pauses.add("person")
            case Released():
                self._pauses.discard("person")

    def collect(self) -> Iterator[Any]:
        """All of it, for one scrape, as families of `prometheus_client`."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        yield GaugeMetricFamily("batchrun_requests", "Requests of the whole run", self._requests)
        yield GaugeMetricFamily("batchrun_requests_done", "Requests of the whole run that have a result", self._done)
        yield GaugeMetricFamily("batchrun_in_flight", "Attempts on the wire", self.in_flight())
        paused = GaugeMetricFamily("batchrun_paused", "1 while the run waits for this", labels=["why"])
        for why in ("endpoint", "quota", "person"):
            paused.add_metric([why], float(why in self._pauses))
        yield paused
        failed = CounterMetricFamily(
            "batchrun_attempts_retried", "Attempts that failed and are made again", labels=["kind"]
        )
        for kind, count in list(self._retries.items()):
            failed.add_metric([kind], count)
        yield failed
        labels = ["model", "variant"]
        results = CounterMetricFamily("batchrun_results", "Requests that got their result", labels=[*labels, "status"])
        attempts = CounterMetricFamily("batchrun_attempts", "Attempts of those", labels=labels)
        unconfirmed = CounterMetricFamily(
            "batchrun_unconfirmed_attempts", "Attempts of those that may have been billed", labels=labels
        )
        tokens = CounterMetricFamily("batchrun_tokens", "Tokens of those, by type", labels=[*labels, "type"])
        cost = CounterMetricFamily("batchrun_cost_usd", "What those cost, as far as prices are known", labels=labels)
        unpriced = CounterMetricFamily("batchrun_unpriced", "Those whose price is not known", labels=labels)
        latency = HistogramMetricFamily("batchrun_latency_seconds", "Of final attempts", labels=labels)
        first = HistogramMetricFamily("batchrun_first_token_seconds", "Of final attempts that streamed", labels=labels)
        for key, seen in list(self._seen.items()):
            names = list(key)
            results.add_metric([*names, "ok"], seen.ok)
            results.add_metric([*names, "failed"], seen.failed)
            attempts.add_metric(names, seen.attempts)
            unconfirmed.add_metric(names, seen.unconfirmed)
            for kind, count in list(seen.tokens.items()):
                tokens.add_metric([*names, kind], count)
            cost.add_metric(names, usd(seen.cost))
            unpriced.add_metric(names, seen.unpriced)
            latency.add_metric(names, seen.latency.buckets(), seen.latency.total)
            if any(seen.first_token.counts):
                first.add_metric(names, seen.first_token.buckets(), seen.first_token.total)
        yield from (results, attempts, unconfirmed, tokens, cost, unpriced, latency, first)


@contextlib.contextmanager
def served(listen: str, numbers: Numbers) -> Iterator[None]:
    """Answer Prometheus at host:port, from a thread, for as long as this lasts. Raises JobError where that can't be."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise JobError("[metrics] listen needs a library more: pip install 'batchrun[metrics]'") from None
    host, port = address(listen)
    registry = CollectorRegistry()
    registry.register(numbers)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise JobError(f"[metrics] listen = {listen!r}: {error.strerror or error}; choose another port") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `:port`. Raises JobError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise JobError(f'[metrics] listen = {listen!r}: give host:port, such as "127.0.0.1:9464"')
    return host.strip("[]") or "127.0.0.1", int(port)
