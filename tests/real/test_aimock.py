"""aimock's chaos: faults that pass, and errors that never do (endpoint.md §4)."""

from collections.abc import Callable

import pytest

from .conftest import Job
from .servers import Server

pytestmark = pytest.mark.real
ROWS = 20
ONCE = {"500": [1, 2], "malformed": [4, 5], "429": [7, 8], "late": [10], "disconnect": [12, 13]}


def test_chaos_passes(aimock: Server, job: Callable[..., Job]) -> None:
    """Errors, garbage, limits, delays and lost connections, streamed or not, each once: all rows end ok; each is asked
    again as often as it failed and no oftener; an attempt counts as unconfirmed where its answer was lost or spoilt.
    """
    plain = job(aimock, concurrency=4).sums(ROWS, ONCE).start()
    stream = job(aimock, concurrency=4, stream=True).sums(ROWS, {**ONCE, "truncate": [15, 16, 17]}).start()
    for one, lost in ((plain, {4, 5, 12, 13}), (stream, {4, 5, 12, 13, 15, 16, 17})):
        one.finish()
        results = one.assert_sums()
        failed = {1, 2, 7, 8} | lost
        assert [row["attempts"] for row in results] == [2 if n in failed else 1 for n in range(ROWS)]
        assert [row["unconfirmed_attempts"] for row in results] == [int(n in lost) for n in range(ROWS)]
        assert one.bill()["unconfirmed_attempts"] == len(lost)
        assert one.asked == ROWS + len(failed)


def test_an_exhausted_account_stops_the_run(aimock: Server, job: Callable[..., Job]) -> None:
    """A 429 that says `insufficient_quota` is no rate limit: exit 3 with the remedy, from `run` and from `check`."""
    run = job(aimock, concurrency=4).rows(["[spent] and gone"] * ROWS).start()
    check = job(aimock).rows(["[spent] and gone"]).start("check")
    check.finish(3)
    assert "credit" in check.stderr
    assert "quota" in check.stderr
    run.finish(3)
    assert run.asked <= 4 + 3  # one again, and two far ahead
    run.assert_stopped("credit", "exceeded your current quota", "top up")


def test_a_model_that_one_row_alone_names_wrongly(aimock: Server, job: Callable[..., Job]) -> None:
    """A 404 that one row alone meets fails that row, and stops nobody else."""
    texts = [f"What is {n} + 1?" for n in range(ROWS)]
    texts[9] = "[nowhere]"
    one = job(aimock, concurrency=4).rows(texts).start().finish(1)
    assert [row["status"] for row in one.results()] == ["failed" if n == 9 else "ok" for n in range(ROWS)]
    assert one.results()[9]["error_kind"] == "not_found"
