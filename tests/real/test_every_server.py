"""What holds whichever server answers: whole answers, its own usage, and a stop at what every row would meet."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import ENDLESS, Job, jobs_in, usage_of
from .servers import Server

pytestmark = pytest.mark.real
ROWS = 24
CONCURRENCY = 6
SERVERS = ("aimock", "mitmproxy", "nginx", "litellm")
WRONG_KEY = "sk-wrong-0123456789abcdef"
REMEDIES = {"credentials": "THE_KEY", "not_found": "base_url and model"}
# behind mitmproxy and nginx stands the same endpoint: each passes one of its errors on
FAULTS = [
    *((name, kind) for name in ("aimock", "litellm") for kind in REMEDIES),
    ("mitmproxy", "credentials"),
    ("nginx", "not_found"),
]


def served(request: pytest.FixtureRequest, name: str) -> Server:
    found: Any = request.getfixturevalue(name)
    return found("plain") if name == "nginx" else found


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return served(request, request.param)


def faulty(server: Server, kind: str) -> tuple[Server, dict[str, str]]:
    """The server and settings of a job that meets the fault at every row."""
    if kind == "credentials":
        return server, {"key": WRONG_KEY}
    return server._replace(model="nonesuch"), {}


def test_every_row_is_answered_once(server: Server, job: Callable[..., Job], upstream: Any) -> None:
    """Streamed or not, all rows are ok with their own answers, each asked once, and one that is longer than the context
    is a `bad_request`, asked once too. The usage is what the server reported, to the token.
    """
    before = upstream.stats()
    plain = job(server, concurrency=CONCURRENCY).sums(ROWS).start()
    stream = job(server, concurrency=CONCURRENCY, stream=True).sums(ROWS)
    stream.rows([*stream.texts, ENDLESS]).start()
    plain.finish()
    stream.finish(1)
    assert (plain.asked, stream.asked) == (ROWS, ROWS + 1)
    plain.assert_sums()
    *answered, refused = stream.results()
    stream.texts.pop()
    stream.assert_sums(answered)
    assert (refused["status"], refused["error_kind"], refused["attempts"]) == ("failed", "bad_request", 1)
    assert "maximum context length" in refused["error_message"]
    results = plain.results() + answered
    assert {(row["attempts"], row["finish_reason"], row["usage_source"]) for row in results} == {
        (1, "stop", "reported")
    }
    after = upstream.stats()
    assert after["repeated"] == before["repeated"]
    for name in ("prompt_tokens", "completion_tokens"):
        reported = after[name] - before[name] or 2 * sum(usage_of(n)[name] for n in range(ROWS))
        assert sum(row[name] for row in results) == reported
        assert plain.bill()[name] + stream.bill()[name] == reported


@pytest.fixture(scope="module")
def stops(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[dict[tuple[str, str], Job]]:
    """A run against each server that is there for each fault that every row meets; all at the same time."""
    with contextlib.ExitStack() as stack:
        make = jobs_in(tmp_path_factory.mktemp("stops"), stack)
        started = {}
        for name, kind in FAULTS:
            with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
                server, settings = faulty(served(request, name), kind)
                one = make(server, concurrency=CONCURRENCY, max_attempts=2, **settings)
                started[name, kind] = one.sums(ROWS).start()
        yield started


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_what_every_row_would_meet_stops_the_run(
    name: str, kind: str, stops: dict[tuple[str, str], Job], request: pytest.FixtureRequest
) -> None:
    """A wrong key or an unknown model: exit 3 after those in flight and three probes, with the fault and what to do."""
    request.getfixturevalue(name)
    one = stops[name, kind].finish(3)
    assert one.asked <= CONCURRENCY + 3
    one.assert_stopped(kind, REMEDIES[kind])


@pytest.fixture(scope="module")
def checks(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[dict[tuple[str, str], Job]]:
    """A check of each server that is there: of a request that it answers, and of those faults."""
    with contextlib.ExitStack() as stack:
        make = jobs_in(tmp_path_factory.mktemp("checks"), stack)
        started = {}
        for name, kind in [*((name, "") for name in SERVERS), *FAULTS]:
            with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
                server, settings = faulty(served(request, name), kind) if kind else (served(request, name), {})
                started[name, kind] = make(server, stream=True, **settings).sums(3).start("check")
        yield started


@pytest.mark.parametrize("name", SERVERS)
def test_check_shows_the_answer(name: str, checks: dict[tuple[str, str], Job], request: pytest.FixtureRequest) -> None:
    """`check` sends one request, and shows where to, and what came back."""
    request.getfixturevalue(name)
    one = checks[name, ""].finish()
    assert one.asked == 1
    assert f"POST {one.server.url}/chat/completions" in one.stdout
    shown = {line.split()[0]: line.split()[1:] for line in one.stdout.splitlines() if line.strip()}
    assert shown["finish_reason"] == ["stop"]
    assert shown["completion"] == ["1"]
    assert "(reported)" in shown["usage"]


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_check_names_the_fault(
    name: str, kind: str, checks: dict[tuple[str, str], Job], request: pytest.FixtureRequest
) -> None:
    """`check` sends one request, names the fault's kind, and ends as a stopped run does."""
    request.getfixturevalue(name)
    one = checks[name, kind].finish(3)
    assert one.asked <= 1  # aimock keeps no journal of what it refuses for its key
    assert one.stderr.startswith(f"batchrun: {kind}: HTTP 4")


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_check_names_the_remedy(
    name: str, kind: str, checks: dict[tuple[str, str], Job], request: pytest.FixtureRequest
) -> None:
    """What `check` says of a fault has the remedy too, as what `run` says has (contract.md §3)."""
    request.getfixturevalue(name)
    assert REMEDIES[kind] in checks[name, kind].finish(3).stderr
