"""Places where runs are broken: an endpoint and a warm process each, and points at which something happens to them."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# test files are imported by their path, so that their own folder is on no path
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("bench", "books")

from bench import Bench, Site, make_bench  # noqa: E402
from points import Calls  # noqa: E402
from soak import Soak, soak_of  # noqa: E402

from batchrun.embedded import Behaviour, Fault  # noqa: E402
from forks import Warm  # noqa: E402
from served import Endpoints  # noqa: E402


@pytest.fixture(scope="session")
def strace() -> None:
    """Skips where there is no strace; where the suite is the judge (CI) that is a failure."""
    if shutil.which("strace") is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("strace is not installed: no system call can be broken")


@pytest.fixture(scope="session")
def benches(embedded: Endpoints, warm: Warm) -> Iterator[list[Bench]]:
    """Two benches, to try two things at a time."""
    with make_bench(embedded, warm, Behaviour()) as one, make_bench(embedded, warm, Behaviour()) as other:
        yield [one, other]


@pytest.fixture(scope="session")
def slow_bench(embedded: Endpoints, warm: Warm) -> Iterator[Bench]:
    """A bench whose endpoint takes its time, so that a run can be met while it lives, with requests in flight.

    A request that says "Stall." waits for a minute, but only the first time.
    """
    stall = Fault(action="stall", seconds=60, match="Stall.", times=1)
    with make_bench(embedded, warm, Behaviour(slots=16, first_token_s=0.02, faults=(stall,))) as made:
        yield made


@pytest.fixture(scope="session")
def refusing(embedded: Endpoints) -> Iterator[str]:
    """The URL of an endpoint that refuses two of the rows."""
    refused = tuple(Fault(status=400, match=f"What is {number} +") for number in (1, 2))
    with embedded.serving(Behaviour(faults=refused)) as url:
        yield url


@pytest.fixture
def soak(request: pytest.FixtureRequest, real_stderr: int) -> Soak | None:
    """A long test's share of the time; None for all others, which try all that they name."""
    return soak_of(request, real_stderr) if request.node.get_closest_marker("soak") else None


@pytest.fixture
def slow_site(slow_bench: Bench, tmp_path: Path, soak: Soak | None) -> Site:
    """A place for runs on the slow bench."""
    return Site(tmp_path / "slow", [slow_bench], soak)


@pytest.fixture
def site(benches: list[Bench], tmp_path: Path, soak: Soak | None) -> Site:
    """A place for runs of four rows in two shards."""
    made = Site(tmp_path / "site", benches, soak)
    made.write_rows(4)
    return made


@pytest.fixture
def calls(site: Site, strace: None) -> Calls:
    """The system calls of the site's runs."""
    return Calls(site)
