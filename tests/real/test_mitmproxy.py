"""Answers that are ill treated on their way, in front of an endpoint that did its work (endpoint.md §2, §4)."""

from collections.abc import Callable

import pytest

from .conftest import Job
from .servers import Server

pytestmark = pytest.mark.real
EACH = 2
LOST = ("reset", "drop", "cut", "hush", "end")
HARMLESS = ("late", "drip", "slice")


def spread(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Each mishap for two rows of their own, beside as many rows that meet none."""
    return {name: [4 * at + 1, 4 * at + 3] for at, name in enumerate(names)}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_mishaps_pass(mitmproxy: Server, job: Callable[..., Job], stream: bool) -> None:
    """Cut, silent, reset, polite but short, garbled, dripped, sliced: all rows end ok, and with their own answers. Each is
    asked again where its answer was lost or spoilt, and only there; a lost one is unconfirmed.
    """
    mishaps = spread((*LOST, "garble", "empty", *HARMLESS))
    rows = 2 * EACH * len(mishaps)
    one = job(mitmproxy, concurrency=16, stream=stream)
    toml = '[timeouts]\nfirst_token = 3\nbetween_tokens = 1\ntotal = 3\n[input]\npath = "rows.jsonl"\n'
    one.sums(rows, mishaps).start(job_file=toml).finish()
    results = one.assert_sums()
    spoilt = {row for name, hit in mishaps.items() if name not in HARMLESS for row in hit}
    assert {row["row"] for row in results if row["attempts"] == 2} == spoilt
    assert {row["attempts"] for row in results} == {1, 2}
    assert one.asked == rows + len(spoilt)
    lost = {row for name in LOST for row in mishaps[name]}
    unconfirmed = {row["row"] for row in results if row["unconfirmed_attempts"]}
    assert lost <= unconfirmed <= spoilt


def test_an_answer_that_is_never_whole_is_never_ok(mitmproxy: Server, job: Callable[..., Job]) -> None:
    """Where each attempt is cut, ended early or garbled, the row fails with the kind, and every lost attempt is counted."""
    texts = ["What is 0 + 1?", "What is 1 + 1? [cut always]", "What is 2 + 1? [end always]", "[garble always]"]
    one = job(mitmproxy, stream=True, max_attempts=3, unanswered="fail").rows(texts).start().finish(1)
    ok, cut, ended, garbled = one.results()
    assert ok["completion"] == "1"
    assert [row["error_kind"] for row in (cut, ended, garbled)] == ["disconnected", "disconnected", "malformed"]
    assert [row["attempts"] for row in (cut, ended, garbled)] == [3, 3, 3]
    assert [row["unconfirmed_attempts"] for row in (cut, ended)] == [3, 3]
    assert {row["completion"] for row in (cut, ended, garbled)} == {None}


def test_check_shows_a_cut_answer_as_a_fault(mitmproxy: Server, job: Callable[..., Job]) -> None:
    """One request, and the kind of what happened to its answer."""
    kinds = {"cut": "disconnected", "reset": "disconnected", "end": "disconnected", "garble": "malformed"}
    checks = {name: job(mitmproxy, stream=True).rows([f"[{name} always]"]).start("check") for name in kinds}
    for name, one in checks.items():
        one.finish(3)
        assert one.asked == 1
        assert kinds[name] in one.stderr


def test_a_certificate_of_nobody_we_know(mitmproxy: Server, job: Callable[..., Job]) -> None:
    """TLS is verified: a certificate that no known authority signed is a `connect` fault, and nothing is sent."""
    one = job(mitmproxy._replace(url=mitmproxy.url.replace("http:", "https:"))).sums(1).start("check").finish(3)
    assert "connect" in one.stderr
    assert "its certificate is not trusted" in one.stderr
    assert one.asked == 0


def test_a_proxy_from_the_environment(mitmproxy: Server, job: Callable[..., Job]) -> None:
    """HTTP_PROXY is honoured, and shown: the request for another host arrives at the proxy."""
    root = mitmproxy.url.removesuffix("/v1")
    elsewhere = mitmproxy._replace(url="http://endpoint.invalid/v1")
    one = job(elsewhere).sums(1).start("check", env={"http_proxy": root}).finish()
    assert one.asked == 1
    assert root.removeprefix("http://") in one.stdout + one.stderr
