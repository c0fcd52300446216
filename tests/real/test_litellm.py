"""What LiteLLM's proxy alone does: its limits, its errors, and its words for a spent or unknown key."""

from collections.abc import Callable

import pytest

from .conftest import Job
from .servers import LIMITED_KEY, SPENT_KEY, UNKNOWN_KEY, Server

pytestmark = pytest.mark.real
ROWS = 20


def test_what_passes(litellm: Server, job: Callable[..., Job]) -> None:
    """A key's limit, a model one of whose deployments is down, and one that is rate limited: all rows end ok, each is
    asked as often as it was tried, and none may have been billed twice. The key's limit is learnt from the headers.
    """
    limited = job(litellm, key=LIMITED_KEY, concurrency=64).sums(38).start()
    others = [job(litellm._replace(model=model), concurrency=4, max_attempts=20) for model in ("quarter", "third")]
    for one in others:
        one.sums(ROWS).start()
    limited.finish().assert_sums()
    assert f"the endpoint allows 30 requests a minute for {litellm.model}: that is kept" in limited.stderr
    for one in (limited, *(one.finish() for one in others)):
        results = one.results()
        assert [row["status"] for row in results] == ["ok"] * len(one.texts)
        assert one.asked == sum(row["attempts"] for row in results) >= len(one.texts)
        assert {row["unconfirmed_attempts"] for row in results} == {0}
    assert {row["completion"] for one in others for row in one.results()} == {"fine, thank you"}


def test_errors_of_one_row(litellm: Server, job: Callable[..., Job]) -> None:
    """A context overflow that LiteLLM words its own way is a `bad_request`, asked once; an internal error that never ends,
    with nobody ever answered, stops the run as `server` after as many probes as attempts were allowed, and fails no row.
    """
    overflow = job(litellm._replace(model="overflow"), concurrency=4).sums(3).start()
    down = job(litellm._replace(model="down"), concurrency=4, max_attempts=2, stream=True).sums(3).start()
    overflow.finish(1)
    found = [(row["status"], row["error_kind"], row["attempts"]) for row in overflow.results()]
    assert found == [("failed", "bad_request", 1)] * 3
    assert overflow.asked == 3
    down.finish(3).assert_stopped("server")
    assert down.asked <= 3 + 2


def test_a_key_that_is_spent_or_unknown_stops_the_run(litellm: Server, job: Callable[..., Job]) -> None:
    """A budget that is exceeded is `credit`, though it comes as 429; a key that is not in its database is `credentials`.
    `run` stops, `check` says so; part of the key that the endpoint repeats is all that is ever shown of it.
    """
    keys = {"credit": (SPENT_KEY, "top up"), "credentials": (UNKNOWN_KEY, "THE_KEY")}
    runs = {kind: job(litellm, key=key, concurrency=4).sums(ROWS).start() for kind, (key, _) in keys.items()}
    checks = {kind: job(litellm, key=key).sums(1).start("check") for kind, (key, _) in keys.items()}
    for kind, (_, remedy) in keys.items():
        assert kind in checks[kind].finish(3).stderr
        one = runs[kind].finish(3)
        assert one.asked <= 4 + 3  # one again, and two far ahead
        one.assert_stopped(kind, remedy)
