"""A run whose input and output stand in a bucket, against a real S3-compatible server (contract.md §4, §6)."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

KEY, SECRET = "AKIAEXAMPLE", "do-not-show-this-secret"
ENVIRON = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
ROWS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host:port of moto's server, a bucket `runs` in it."""
    try:
        import moto.server  # noqa: F401
    except ImportError:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("moto is not installed (pip install '.[test]'): there is no S3 server to try a bucket on")
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/moto-api/data.json")
            assert httpx.put(f"http://127.0.0.1:{port}/runs", trust_env=False).status_code == 200
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx.get(url, trust_env=False, verify=False)
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.1)
        else:
            return


class Bucket:
    """A folder of its own in the bucket, and the state folder of the user who runs there."""

    def __init__(self, server: str, name: str, state: Path, batchrun: Callable[..., Any], endpoint: Any) -> None:
        self.query = f"?endpoint_override={server}&scheme=http"
        self.name = name
        self.url = f"s3://runs/{name}/out{self.query}"
        self.input = f"s3://runs/{name}/rows.jsonl{self.query}"
        self.environ = {**ENVIRON, "XDG_STATE_HOME": str(state)}
        self.state = state
        self.batchrun = batchrun
        self.endpoint = endpoint
        self.filesystem = fs.S3FileSystem(
            access_key=KEY, secret_key=SECRET, endpoint_override=server, scheme="http", region="us-east-1"
        )

    def rows(self, numbers: range) -> None:
        lines = [json.dumps({"number": n, "prompt": f"What is {n} + 1?"}) + "\n" for n in numbers]
        with self.filesystem.open_output_stream(f"runs/{self.name}/rows.jsonl") as target:
            target.write("".join(lines).encode())

    def run(self, *flags: str, code: int = 0) -> int:
        before = self.endpoint.received
        args = ("run", self.input, "-o", self.url, "--model", "m", "--base-url", self.endpoint.url, *flags)
        self.process = self.batchrun(*args, env=self.environ)
        assert self.process.returncode == code, self.process.stderr
        return int(self.endpoint.received - before)

    def names(self) -> list[str]:
        root = f"runs/{self.name}/out"
        found = self.filesystem.get_file_info(fs.FileSelector(root, recursive=True))
        return sorted(info.path.removeprefix(root + "/") for info in found if info.is_file)

    def assert_answers(self, numbers: range) -> None:
        table = pq.read_table(f"runs/{self.name}/out/results.parquet", filesystem=self.filesystem)
        assert table["number"].to_pylist() == list(numbers)
        assert table["completion"].to_pylist() == [str(n + 1) for n in numbers]


@pytest.fixture
def bucket(
    server: str, batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> Bucket:
    return Bucket(server, request.node.name.replace("[", "-").rstrip("]"), tmp_path / "state", batchrun, endpoint)


def test_a_run_in_a_bucket(bucket: Bucket) -> None:
    """Results, bill and manifest appear in the bucket; the journal is local, and the message says where; the same command
    has nothing to do; status, summary and export read the bucket; no key is shown or stored anywhere."""
    bucket.rows(range(ROWS))
    assert bucket.run() == ROWS
    assert str(bucket.state / "batchrun") in bucket.process.stderr
    shown = bucket.process.stderr + bucket.process.stdout
    assert f"s3://runs/{bucket.name}/out/results.parquet" in shown
    assert bucket.names() == [".state/inventory.json", "cost_summary.parquet", "results.parquet", "run.json"]
    bucket.assert_answers(range(ROWS))
    assert bucket.run() == 0
    assert "nothing to do" in bucket.process.stderr
    status = bucket.batchrun("status", bucket.url, "--json", env=bucket.environ)
    assert json.loads(status.stdout)["state"] == "complete"
    assert json.loads(status.stdout)["done"] == ROWS
    assert "30" in bucket.batchrun("summary", bucket.url, env=bucket.environ).stdout
    target = bucket.state / "copy.csv"
    assert bucket.batchrun("export", bucket.url, target, env=bucket.environ).returncode == 0
    assert len(target.read_text().splitlines()) == ROWS + 1
    with bucket.filesystem.open_input_stream(f"runs/{bucket.name}/out/run.json") as manifest:
        kept = manifest.read().decode()
    assert "endpoint_override" not in kept
    assert SECRET not in kept + shown


def test_an_export_into_a_bucket(bucket: Bucket) -> None:
    """The file's URL takes the bucket's query as that of a run does."""
    bucket.rows(range(3))
    bucket.run()
    target = f"s3://runs/{bucket.name}/a copy.csv"
    process = bucket.batchrun("export", bucket.url, target + bucket.query, env=bucket.environ)
    assert process.returncode == 0, process.stderr
    with bucket.filesystem.open_input_file(target.removeprefix("s3://")) as copy:
        assert copy.size() > 100
    lost = bucket.batchrun("export", bucket.url, target.replace("runs", "none") + bucket.query, env=bucket.environ)
    assert lost.returncode in (2, 3)
    assert "Traceback" not in lost.stderr
    assert "s3://none" in lost.stderr


def test_a_change_in_a_bucket_asks_only_what_is_new(bucket: Bucket) -> None:
    """Appended rows, a changed parameter and back, `--fresh`: the same rules as in a folder, nothing deleted."""
    bucket.rows(range(ROWS))
    bucket.run("--limit", "10")
    assert bucket.run() == ROWS - 10
    assert bucket.run("--param", "temperature=0.1", "--limit", "4") == 4
    assert bucket.run() == 0
    bucket.assert_answers(range(ROWS))
    assert any(name.startswith(".state/superseded/") for name in bucket.names())
    before = bucket.names()
    assert bucket.run("--fresh") == ROWS
    kept = [name for name in bucket.names() if name.startswith("set-aside/")]
    assert len(kept) == len(before)
    bucket.assert_answers(range(ROWS))


def test_from_another_machine_the_sealed_answers_are_used(bucket: Bucket, tmp_path: Path) -> None:
    """The inventory stands in the bucket too: without this machine's state nothing that was sealed is asked again."""
    bucket.rows(range(ROWS))
    bucket.run()
    bucket.environ["XDG_STATE_HOME"] = str(tmp_path / "elsewhere")
    assert bucket.run() == 0
    bucket.rows(range(ROWS + 2))
    assert bucket.run() == 2
    bucket.assert_answers(range(ROWS + 2))


def test_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    """Exit 2 before anything is sent, in a line or two that name the bucket."""
    bucket.rows(range(3))
    bucket.url = bucket.url.replace("s3://runs", "s3://nowhere")
    assert bucket.run(code=2) == 0
    assert "s3://nowhere/" in bucket.process.stderr
    assert len(bucket.process.stderr.splitlines()) <= 3
    assert "Traceback" not in bucket.process.stderr
