"""What every room's tests share: the event loop of async tests, the program as a process, and what the long ones may take."""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forks import ROOT, Call, Warm, environment, warmed
from served import Endpoints, endpoints

SOAK_MINUTES = 50.0
_STDERR = pytest.StashKey[int]()
sys.dont_write_bytecode = False  # pytest's work on 140 test files takes longer than many of them: it is done once


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
    # whoever starts the tests may ignore signals (`nohup`, `&` in a script), and processes inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
def warm() -> Iterator[Warm]:
    """The process from which calls are forked: each is a process like any other."""
    with warmed() as made:
        yield made


@pytest.fixture(scope="session")
def begin(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Call]:
    """Begin `batchrun ARGS…` in a fork, from the repository's root unless `cwd` says otherwise. `out` and `err` are places for
    its output, and `more` what else warm.py and surroundings.py know of. (`command` starts one from nothing.)
    """
    folder = tmp_path_factory.mktemp("said")
    numbers = itertools.count()

    def call(
        *args: object,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        **more: Any,
    ) -> Call:
        number = next(numbers)
        said_out, said_err = folder / f"{number}.out", folder / f"{number}.err"
        said_out.touch()
        said_err.touch()
        places = {"out": str(said_out), "err": str(said_err), **more}
        return Call(warm, warm.start(*args, cwd=cwd, env=environment(env), **places), said_out, said_err)

    return call


@pytest.fixture(scope="session")
def batchrun(begin: Callable[..., Call]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `batchrun ARGS…` to its end; takes what `begin` takes."""

    def call(*args: object, **more: Any) -> subprocess.CompletedProcess[str]:
        process = begin(*args, **more)
        out, err = process.communicate()
        return subprocess.CompletedProcess(["batchrun", *map(str, args)], process.wait(), out, err)

    return call
