"""What Prometheus reads of a call, and the spans that a collector gets."""

import contextlib
import gzip
import http.server
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import EndpointError, JobError, Kind
from batchrun.events import Began, Done, Held, Kept, Paused, Released, Resumed, Retried, Waiting
from batchrun.records import Result
from batchrun.report.metrics import Numbers, address, served
from batchrun.report.traces import described, is_picked, traced

FAULT = EndpointError(Kind.SERVER, "HTTP 500")


def result(row: int = 0, **given: Any) -> Result:
    fields = {"request_hash": f"{row:032x}", "status": "ok", "asked_model": "m", "attempts": 1, **given}
    return Result(row=row, id=str(row), variant="v", sample=0, **fields)


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and its labels' values."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    order = ("model", "variant", "status", "type", "kind", "le")
    return {
        (one.name, *(one.labels[name] for name in order if name in one.labels)): one.value
        for family in families
        for one in family.samples
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_prometheus_reads_what_a_call_came_to() -> None:
    """Counters are of this call alone, gauges of the whole run; an earlier call's result counts as done and as nothing else."""
    numbers, port = Numbers(), free_port()
    numbers.in_flight = lambda: 7
    with served(f"127.0.0.1:{port}", numbers):
        for event in (
            Began(10),
            Kept(4),
            Done(result(4, total_tokens=9, prompt_tokens=9), asked=False),
            Done(
                result(5, prompt_tokens=3, completion_tokens=5, total_tokens=8, cost=2_000_000_000_000, latency_s=0.3)
            ),
            Done(result(6, prompt_tokens=3, total_tokens=3, latency_s=700.0, first_token_s=0.2)),
            Done(result(7, status="failed", attempts=8, unconfirmed_attempts=2)),
            Retried(FAULT),
            Retried(FAULT),
        ):
            numbers.hear(event)
        found = scraped(port)
    assert found["batchrun_requests",] == 10
    assert found["batchrun_requests_done",] == 8
    assert found["batchrun_in_flight",] == 7
    assert found["batchrun_attempts_retried_total", "server"] == 2
    assert found["batchrun_results_total", "m", "v", "ok"] == 2
    assert found["batchrun_results_total", "m", "v", "failed"] == 1
    assert found["batchrun_attempts_total", "m", "v"] == 10
    assert found["batchrun_unconfirmed_attempts_total", "m", "v"] == 2
    assert found["batchrun_tokens_total", "m", "v", "prompt"] == 6
    assert found["batchrun_cost_usd_total", "m", "v"] == 2.0
    assert found["batchrun_unpriced_total", "m", "v"] == 1
    assert found["batchrun_latency_seconds_bucket", "m", "v", "0.25"] == 0
    assert found["batchrun_latency_seconds_bucket", "m", "v", "0.5"] == 1
    assert found["batchrun_latency_seconds_count", "m", "v"] == 2
    assert found["batchrun_first_token_seconds_bucket", "m", "v", "0.25"] == 1
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)), "nobody listens when it is over"


@pytest.mark.parametrize(
    ("begins", "ends", "why"),
    [
        (Paused(FAULT, 60.0), Resumed(1.0), "endpoint"),
        (Waiting(60.0, FAULT, probed=True), Resumed(1.0), "quota"),
        (Held(), Released(1.0), "person"),
    ],
)
def test_a_pause_is_a_gauge(begins: Any, ends: Any, why: str) -> None:
    """1 while it lasts, for what the run waits for."""
    numbers = Numbers()

    def paused() -> dict[str, float]:
        (family,) = (one for one in numbers.collect() if one.name == "batchrun_paused")
        return {one.labels["why"]: one.value for one in family.samples}

    numbers.hear(begins)
    assert paused() == {"endpoint": 0.0, "quota": 0.0, "person": 0.0, why: 1.0}
    numbers.hear(ends)
    assert set(paused().values()) == {0.0}


@pytest.mark.parametrize(
    ("listen", "meant"),
    [(":9464", ("127.0.0.1", 9464)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:9464", ("::1", 9464))],
)
def test_an_address(listen: str, meant: tuple[str, int]) -> None:
    """Without a host it is this machine alone that is answered."""
    assert address(listen) == meant


@pytest.mark.parametrize("listen", ["9464", "host:", "host:http", "host:99999", ""])
def test_what_is_no_address(listen: str) -> None:
    """It is named, with what one looks like."""
    with pytest.raises(JobError, match="host:port"):
        address(listen)


def test_a_port_that_is_taken_stops_a_run_before_it_begins(batchrun: Callable[..., Any], tmp_path: Path) -> None:
    """Exit 2, with the address and what to do; nothing was sent, and no run is there."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        job = f'[input]\npath = "rows.jsonl"\n[endpoint]\nbase_url = "embedded:"\nmodel = "m"\n[metrics]\nlisten = "{listen}"\n'
        (tmp_path / "job.toml").write_text(job)
        process = batchrun("run", "job.toml", "-o", "out", cwd=tmp_path)
    assert process.returncode == 2
    assert listen in process.stderr
    assert "another port" in process.stderr
    assert not (tmp_path / "out" / "run.json").exists()


@contextlib.contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A collector of OTLP over HTTP: its base URL, and the spans that it got."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            request = ExportTraceServiceRequest.FromString(data)
            spans.extend(span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


def test_a_collector_gets_a_span_for_each_request() -> None:
    """With its times and tokens, and neither prompt nor answer; what an earlier call asked has none."""
    asked = result(
        1,
        completion="the answer",
        prompt_tokens=3,
        completion_tokens=5,
        latency_s=0.5,
        started_at=1_700_000_000_000_000,
    )
    with collector() as (url, spans):
        notes: list[str] = []
        with traced(url, 1.0, "runs/x", "api.example.com", notes.append) as hear:
            hear(Done(asked))
            hear(Done(result(2), asked=False))
        assert [span.name for span in spans] == ["chat m"]
        assert spans[0].start_time_unix_nano == 1_700_000_000_000_000_000
        assert spans[0].end_time_unix_nano - spans[0].start_time_unix_nano == 500_000_000
        told = {one.key: one.value for one in spans[0].attributes}
        assert told["gen_ai.usage.input_tokens"].int_value == 3
        assert told["server.address"].string_value == "api.example.com"
        assert "the answer" not in str(spans[0])
        assert not notes


def test_a_collector_that_takes_nothing_is_said_once() -> None:
    """It is no fault of the run's."""
    with collector(status=400) as (url, _spans):
        notes: list[str] = []
        with traced(url, 1.0, "runs/x", "e", notes.append) as hear:
            hear(Done(result(1)))
        assert notes == ["[metrics] traces: the collector does not take them"]


def test_a_failed_requests_span_has_its_kind() -> None:
    """As `error.type`, with the status where there was one."""
    _name, told = described(result(1, status="failed", error_kind="server", error_status=500), "e")
    assert (told["error.type"], told["http.response.status_code"]) == ("server", 500)


def test_a_share_of_requests_is_picked() -> None:
    """By their hashes: about as many as are wanted, the same in each call; none for 0 and all for 1."""
    hashes = [f"{(number * 2_654_435_761) % (1 << 32):08x}" for number in range(4000)]
    assert 300 < sum(is_picked(one, 0.1) for one in hashes) < 500
    assert not any(is_picked(one, 0.0) for one in hashes)
    assert all(is_picked(one, 1.0) for one in hashes)


def test_what_is_no_collector() -> None:
    """A URL without http is named."""
    with pytest.raises(JobError, match="traces"), traced("localhost:4318", 1.0, "r", "e", print):
        pass
