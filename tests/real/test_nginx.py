"""What a gateway does to its clients: pages instead of answers, limits, silence, sizes and redirects (endpoint.md §3–§6)."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Job, jobs_in
from .servers import Server

pytestmark = pytest.mark.real
ROWS = 20
LIMITS = ("limit-429", "limit-503", "limit-429-told", "limit-503-told")
MOVED = ("moved-301", "moved-307", "moved-308")


@pytest.fixture(scope="module")
def runs(nginx: Callable[[str], Server], tmp_path_factory: Any) -> Iterator[Callable[[str], Job]]:
    """A run by each location that takes its time; they go on beside each other. `runs("slow")` waits for its own."""
    slow = {"slow": [2, 9]}
    with contextlib.ExitStack() as stack:
        make = jobs_in(tmp_path_factory.mktemp("runs"), stack)
        started = {
            name: make(nginx(name), concurrency=4, max_attempts=20).sums(ROWS, slow if name == "slow" else {}).start()
            for name in ("flaky", "slow", "quiet", *LIMITS)
        }
        yield lambda name: started[name].finish()


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_delays_and_loses_nothing(runs: Callable[[str], Job], name: str) -> None:
    """429 or 503, with Retry-After or without: all rows end ok, and each refusal is asked again once."""
    one = runs(name)
    results = one.assert_sums()
    assert one.asked == sum(row["attempts"] for row in results) > ROWS
    assert {row["unconfirmed_attempts"] for row in results} == {0}


def test_a_page_of_a_gateway_whose_endpoint_is_away_passes(runs: Callable[[str], Job]) -> None:
    """A fifth of the requests gets an HTML page, 502: all rows end ok; none was asked again that was answered."""
    one = runs("flaky")
    results = one.assert_sums()
    assert one.asked == sum(row["attempts"] for row in results)


def test_a_gateway_that_waits_no_longer_passes(runs: Callable[[str], Job]) -> None:
    """504 for the rows whose endpoint took too long, and for no other; asked again they are answered."""
    assert [row["row"] for row in runs("slow").assert_sums() if row["attempts"] == 2] == [2, 9]


def test_silence_is_asked_again_and_confessed(runs: Callable[[str], Job]) -> None:
    """A fifth of the connections is closed without a word: all rows end ok; each loss counts as unconfirmed."""
    one = runs("quiet")
    results = one.assert_sums()
    again = sum(row["attempts"] for row in results) - ROWS
    assert one.asked == ROWS + again
    assert sum(row["unconfirmed_attempts"] for row in results) == again


def test_packed_answers(nginx: Callable[[str], Server], job: Callable[..., Job]) -> None:
    """gzip, streamed or not, is unpacked; and the request that is too large for the gateway (413) fails its row alone."""
    packed = [job(nginx("gzip"), stream=stream, concurrency=4).sums(ROWS).start() for stream in (False, True)]
    small = job(nginx("small"), concurrency=4).rows(["What is 0 + 1?", "much " * 20000, "What is 2 + 1?"]).start()
    for one in packed:
        one.finish().assert_sums()
        assert one.asked == ROWS
    small.finish(1)
    assert [row["error_kind"] for row in small.results()] == [None, "bad_request", None]
    refused = small.results()[1]
    assert (refused["error_status"], refused["attempts"]) == (413, 1)
    assert "HTTP 413: Request Entity Too Large" in refused["error_message"]
    assert "<html>" not in refused["error_message"]


def test_redirects_are_not_followed(nginx: Callable[[str], Server], job: Callable[..., Job], upstream: Any) -> None:
    """301, 307 and 308 to another host carry neither prompt nor key there: `check` names the target and the remedy."""
    before = upstream.stats()["received"]
    checks = [job(nginx(name)).sums(1).start("check") for name in MOVED]
    for one in checks:
        one.finish(3)
        assert one.asked == 1
        assert "not_found" in one.stderr
        assert upstream.url in one.stderr
        assert "base_url" in one.stderr
    assert upstream.stats()["received"] == before


def test_a_redirect_and_a_page_stop_a_run(nginx: Callable[[str], Server], job: Callable[..., Job]) -> None:
    """So does a gateway that never has anybody behind it, after a minute with few probes: its page's title is what is said of
    it; and one that says nothing, whose attempts may be billed. All rows stay to be done.
    """
    moved = job(nginx("moved-here"), concurrency=4).sums(ROWS).start()
    dead = job(nginx("dead"), max_attempts=2).sums(3).start()
    silent = job(nginx("silent"), max_attempts=2).sums(3).start()
    for one, kind, said in ((dead, "server", "HTTP 502: Bad Gateway"), (silent, "disconnected", "the same command")):
        one.finish(3)
        one.assert_stopped(kind, said)
        assert one.asked <= 12
    moved.finish(3)
    assert moved.asked <= 4 + 3  # those in flight, and three probes
    moved.assert_stopped("not_found", "/login?next=v1", "redirects are not followed")


def test_check_of_a_gateway_without_an_endpoint(nginx: Callable[[str], Server], job: Callable[..., Job]) -> None:
    """`check` says what the page says, and of silence that the answer was lost."""
    dead, silent = (job(nginx(name)).sums(1).start("check") for name in ("dead", "silent"))
    assert "server: HTTP 502: Bad Gateway" in dead.finish(3).stderr
    assert "disconnected" in silent.finish(3).stderr


def test_a_dead_host(job: Callable[..., Job]) -> None:
    """Nobody listens: `run` stops, `check` says so, both in a line with the address and the remedy."""
    nobody = Server("http://127.0.0.1:9/v1", list)
    run = job(nobody, concurrency=20).sums(30).start()
    check = job(nobody).sums(1).start("check").finish(3)
    assert check.stderr.startswith("batchrun: connect: ")
    assert "127.0.0.1:9" in check.stderr
    run.finish(3)
    run.assert_stopped("connect", "127.0.0.1:9", "base_url")
    assert "base_url" in check.stderr
