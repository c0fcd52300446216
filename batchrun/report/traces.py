"""A span for one request in so many, as OpenTelemetry's conventions for generative AI have it. A listener to a run's events.

Neither prompt nor answer is in a span. Whether a request has one is decided by its hash: a run that goes on decides the same.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from batchrun.errors import JobError
from batchrun.events import Done, Event, Hear
from batchrun.money import usd
from batchrun.records import Result


@contextlib.contextmanager
def traced(url: str, share: float, run: str, endpoint: str, note: Callable[[str], None]) -> Iterator[Hear]:
    """A listener whose spans go to a collector, from a thread; what is left is sent at the end. `note` hears once what fails.
    Raises JobError.
    """
    if not url.startswith(("http://", "https://")):
        raise JobError(f'[metrics] traces = {url!r}: give a collector\'s base URL, such as "http://127.0.0.1:4318"')
    if "@" in url:
        raise JobError("[metrics] traces: a URL with a user or a password stands in run.json; give it without")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    except ImportError:
        raise JobError("[metrics] traces needs libraries more: pip install 'batchrun[otel]'") from None

    class Exporter(OTLPSpanExporter):
        is_told = False

        def export(self, spans: Any) -> SpanExportResult:
            result = super().export(spans)
            if result is not SpanExportResult.SUCCESS and not self.is_told:
                self.is_told = True
                note("[metrics] traces: the collector does not take them")
            return result

    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # else Python prints its warnings
    exporter = Exporter(endpoint=url.rstrip("/") + "/v1/traces", timeout=5)
    provider = TracerProvider(
        resource=Resource.create({"service.name": "batchrun", "batchrun.run": run}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("batchrun")

    def hear(event: Event) -> None:
        if isinstance(event, Done) and event.asked and is_picked(event.result.request_hash, share):
            result = event.result
            began, ended = times(result)
            name, attributes = described(result, endpoint)
            span = tracer.start_span(name, start_time=began, attributes=attributes)
            assert isinstance(span, ReadableSpan)
            span.end(ended)

    try:
        yield hear
    finally:
        provider.shutdown()


def is_picked(digest: str, share: float) -> bool:
    """Whether a request has a span."""
    return int(digest[:8] or "0", 16) < share * 0x1_0000_0000


def times(result: Result) -> tuple[int, int]:
    """When its final attempt began and ended, in nanoseconds since 1970."""
    began = (result.started_at or 0) * 1000
    return began, began + int((result.latency_s or 0.0) * 1e9)


def described(result: Result, endpoint: str) -> tuple[str, dict[str, Any]]:
    """The name and the attributes of a request's span."""
    operation = "embeddings" if result.embeddings else "chat"
    model = result.asked_model or result.model or ""
    found = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": result.model,
        "gen_ai.response.id": result.response_id,
        "gen_ai.response.finish_reasons": [result.finish_reason] if result.finish_reason else None,
        "gen_ai.usage.input_tokens": result.prompt_tokens,
        "gen_ai.usage.output_tokens": result.completion_tokens,
        "server.address": endpoint,
        "error.type": result.error_kind,
        "http.response.status_code": result.error_status,
        "batchrun.row": result.row,
        "batchrun.variant": result.variant,
        "batchrun.sample": result.sample,
        "batchrun.attempts": result.attempts,
        "batchrun.cost_usd": None if result.cost is None else usd(result.cost),
    }
    return f"{operation} {model}", {name: value for name, value in found.items() if value is not None}
