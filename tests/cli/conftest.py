"""The program as a process, and an endpoint that counts what it was asked."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchrun.embedded import Behaviour, embedded_endpoint

ROOT = Path(__file__).resolve().parents[2]


class Endpoint:
    """A running embedded endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = httpx.get(self.url.removesuffix("/v1") + "/stats", trust_env=False).json()
        return found

    @property
    def received(self) -> int:
        return self.stats()["received"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anybody's key, in which the package under test is found from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


@pytest.fixture(scope="session")
def command() -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The argument list and the environment of one call, for tests that start the process themselves."""

    def build(*args: object, env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "batchrun", *map(str, args)], environment(env)

    return build


@pytest.fixture(scope="session")
def batchrun(command: Callable[..., Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `batchrun ARGS…` to its end, from the repository's root unless `cwd` says otherwise."""

    def call(
        *args: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        line, environ = command(*args, env=env)
        return subprocess.run(
            line, env=environ, cwd=cwd or ROOT, timeout=timeout, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Endpoint]]:
    """`with serve(slots=4) as endpoint`: an embedded endpoint with a behaviour of its own."""

    @contextlib.contextmanager
    def serving(**behaviour: Any) -> Iterator[Endpoint]:
        with embedded_endpoint(Behaviour(**behaviour)) as url:
            yield Endpoint(url)

    return serving


@pytest.fixture(scope="module")
def endpoint(serve: Callable[..., Any]) -> Iterator[Endpoint]:
    """One endpoint for a whole file of tests, answering at once."""
    with serve() as running:
        yield running
