"""How each server is started on a free port of loopback, asked how many requests it got, and ended.

A server that is not installed skips its tests with the reason; where CI is set it fails them. This module never asks
batchrun anything.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import httpx
import pytest

HERE = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
HOME = Path(os.environ.get("BATCHRUN_TEST_SERVERS") or _CACHE / "batchrun-test-servers")
KEY = "sk-right-0123456789abcdef"
LIMITED_KEY = "sk-limited-0123456789abcdef"
SPENT_KEY = "sk-spent-0123456789abcdef"
UNKNOWN_KEY = "sk-unknown-0123456789abcdef"
MODEL = "m"
CONTEXT = 1000
START_S = 120  # the first start after the installation compiles


class Server(NamedTuple):
    """A running server. `asked()` gives a line for each chat completion that it was asked for, whatever it answered.

    In a line stands the query string of the request's URL, by which the requests of one job are told from another's.
    """

    url: str
    asked: Callable[[], list[str]]
    model: str = MODEL


def installed(program: Path | str) -> str:
    """The program's path; where it is not installed, the test that needs it is skipped, or fails in CI."""
    found = shutil.which(program)
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{Path(program).name} is not installed (tests/real/install.sh installs it)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def program(
    command: list[str], folder: Path, *, ready: str, env: Mapping[str, str] | None = None
) -> Iterator[Callable[[], Path]]:
    """The program, its output in `folder`/log, until the block ends. What is given waits until `ready` is answered."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_api_key"))}
    with (folder / "log").open("wb") as log:
        environ = {**kept, "PYTHONUNBUFFERED": "1", **(env or {})}
        process = subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait() -> Path:
        deadline = time.monotonic() + START_S
        while not _answers(ready):
            said = (folder / "log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"{command[0]} ended: {said}"
            assert time.monotonic() < deadline, f"{command[0]} does not come up: {said}"
            time.sleep(0.1)
        return folder / "log"

    try:
        yield wait
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def _lines(path: Path, having: str = "") -> list[str]:
    return [line for line in path.read_text(errors="replace").splitlines() if having in line]


@contextlib.contextmanager
def litellm(folder: Path, upstream: str, upstream_key: str) -> Iterator[Callable[[], Server]]:
    """LiteLLM's proxy before another endpoint. It takes a while to start: what is given waits for it."""
    port = free_port()
    settings = {"UPSTREAM": upstream, "UPSTREAM_KEY": upstream_key, "KEY": KEY}
    (folder / "config.yaml").write_text(Template((HERE / "litellm.yaml").read_text()).substitute(settings))
    shutil.copy(HERE / "litellm_keys.py", folder)
    command = [installed(HOME / "litellm/bin/litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    environ = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no look at the network for prices
        "LITELLM_RATE_LIMIT_WINDOW_SIZE": "2",  # seconds instead of a minute, so that a test can outlive one
        "LIMITED_KEY": LIMITED_KEY,
        "SPENT_KEY": SPENT_KEY,
        "UNKNOWN_KEY": UNKNOWN_KEY,
    }
    root = f"http://127.0.0.1:{port}"
    with program([*command, "--port", str(port)], folder, ready=f"{root}/health/liveliness", env=environ) as wait:

        def server() -> Server:
            log = wait()
            return Server(f"{root}/v1", lambda: _lines(log, "POST /v1/chat/completions"), "relay")

        yield server


@contextlib.contextmanager
def aimock(folder: Path, fixtures: list[dict[str, Any]]) -> Iterator[Server]:
    """CopilotKit's aimock with fixtures; its journal is the count."""
    installed("node")
    script = HOME / "aimock/node_modules/@copilotkit/aimock/dist/aimock-cli.js"
    installed(HOME / "aimock/node_modules/.bin/aimock")
    port = free_port()
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}))
    config = {"port": port, "auth": {"apiKeys": [KEY]}, "llm": {"fixtures": "fixtures.json", "chunkSize": 5}}
    (folder / "aimock.json").write_text(json.dumps(config))
    root = f"http://127.0.0.1:{port}"
    with program(["node", str(script), "--config", "aimock.json"], folder, ready=f"{root}/health") as wait:
        wait()
        yield Server(f"{root}/v1", lambda: _journal(root))


def _journal(root: str) -> list[str]:
    response = httpx.get(f"{root}/__aimock/journal", headers={"x-api-key": KEY}, trust_env=False)
    return [json.dumps(entry) for entry in response.json() if entry["method"] == "POST"]


@contextlib.contextmanager
def mitmproxy(folder: Path, upstream: str) -> Iterator[Server]:
    """mitmproxy before another endpoint, with the project's own add-on; the add-on's ledger is the count."""
    port = free_port()
    ledger = folder / "ledger.jsonl"
    ledger.touch()
    command = [installed(HOME / "mitmproxy/bin/mitmdump"), "--set", f"confdir={folder}", "-s", str(HERE / "mishaps.py")]
    mode = ["--mode", f"reverse:{upstream.removesuffix('/v1')}@127.0.0.1:{port}"]
    root = f"http://127.0.0.1:{port}"
    with program([*command, *mode], folder, ready=f"{root}/health", env={"LEDGER": str(ledger)}) as wait:
        wait()
        yield Server(f"{root}/v1", lambda: _lines(ledger))


@contextlib.contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[Callable[[str], Server]]:
    """nginx before another endpoint; `server("dead")` is its location of that name in nginx.conf."""
    path = installed("nginx")
    port = free_port()
    settings = {"PORT": str(port), "DEAD": str(free_port()), "UPSTREAM": upstream.removesuffix("/v1")}
    text = (HERE / "nginx.conf").read_text()
    for name, value in settings.items():
        text = text.replace(f"@{name}@", value)
    (folder / "nginx.conf").write_text(text)
    root = f"http://127.0.0.1:{port}"
    user = "user root;" if os.geteuid() == 0 else ""  # a worker of another user could not enter the folder
    command = [path, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log", "-g", f"daemon off; {user}"]
    with program(command, folder, ready=root) as wait:
        wait()

        def server(location: str) -> Server:
            return Server(f"{root}/{location}/v1", lambda: _lines(folder / "access.log", f"POST /{location}/"))

        yield server
