"""What every room's tests share: the event loop of async tests, the program as a process, and what the long ones may take."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from served import Endpoints, endpoints

ROOT = Path(__file__).resolve().parents[1]
SOAK_MINUTES = 50.0
_STDERR = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "the long tests (pytest -m soak)")
    group.addoption("--soak-minutes", type=float, default=SOAK_MINUTES, help="what all of them together may take")
    group.addoption("--soak-seed", type=int, help="what draws their trials; default: another one each time")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.soak_seed is None:  # workers are given the options as they are from here on
        config.option.soak_seed = random.SystemRandom().randrange(10**6)
    config.stash[_STDERR] = os.dup(2)  # it is captured while a test runs


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


def pytest_report_header(config: pytest.Config) -> str | None:
    if "soak" not in config.option.markexpr.replace("not soak", ""):
        return None
    seed, minutes = config.option.soak_seed, config.option.soak_minutes
    return f"soak: {minutes:g} minutes, seed {seed}: --soak-minutes {minutes:g} --soak-seed {seed} draws the same again"


@pytest.fixture(scope="session")
def real_stderr(request: pytest.FixtureRequest) -> int:
    """Standard error as it is while pytest captures it: a descriptor."""
    return request.config.stash[_STDERR]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anybody's key, in which the package under test is found from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


@pytest.fixture(scope="session")
def embedded() -> Iterator[Endpoints]:
    """Embedded endpoints, each for the length of a block."""
    with endpoints(environment()) as made:
        yield made


@pytest.fixture(scope="session")
def command() -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The argument list and the environment of one call, for tests that start the process themselves."""

    def build(*args: object, env: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "batchrun", *map(str, args)], environment(env)

    return build


@pytest.fixture(scope="session")
def batchrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run `batchrun ARGS…` to its end, from the repository's root unless `cwd` says otherwise: in a fork of a warm process,
    which is a process like any other. (`command` starts one from nothing.) `out` and `err` are places for its output, and
    `more` what else warm.py knows of.
    """
    folder = tmp_path_factory.mktemp("said")
    said_out, said_err = folder / "out", folder / "err"
    line = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    with subprocess.Popen(
        line, env=environment(), cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as warm:
        assert warm.stdin is not None
        assert warm.stdout is not None

        def call(
            *args: object,
            env: Mapping[str, str] | None = None,
            cwd: Path | None = None,
            out: str | None = str(said_out),
            err: str | None = str(said_err),
            **more: Any,
        ) -> subprocess.CompletedProcess[str]:
            words = [str(arg) for arg in args]
            said_out.write_bytes(b"")
            said_err.write_bytes(b"")
            order = {"args": words, "cwd": str(cwd or ROOT), "env": environment(env), "out": out, "err": err, **more}
            warm.stdin.write(json.dumps(order) + "\n")
            warm.stdin.flush()
            code = int(warm.stdout.readline())
            return subprocess.CompletedProcess(
                ["batchrun", *words], code, said_out.read_text(errors="replace"), said_err.read_text(errors="replace")
            )

        yield call
        warm.stdin.close()
