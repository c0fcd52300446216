"""What every room's tests share: the event loop that async tests run on, and what the long ones may take."""

import os
import random

import pytest

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
    if config.option.markexpr != "soak":
        return None
    seed, minutes = config.option.soak_seed, config.option.soak_minutes
    return f"soak: {minutes:g} minutes, seed {seed}: --soak-minutes {minutes:g} --soak-seed {seed} draws the same again"


@pytest.fixture(scope="session")
def real_stderr(request: pytest.FixtureRequest) -> int:
    """Standard error as it is while pytest captures it: a descriptor."""
    return request.config.stash[_STDERR]
