"""What holds whichever server answers: whole answers, its own usage, and a stop at what every row would meet."""

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import ENDLESS, Job, usage_of
from .servers import Server

pytestmark = pytest.mark.real
ROWS = 24
CONCURRENCY = 8
SERVERS = ("aimock", "mitmproxy", "nginx", "litellm")
MEND = {
    "credentials": "THE_KEY",
    "not_found": "base_url and model",
    "connect": "base_url",
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    found: Any = request.getfixturevalue(request.param)
    return found("plain") if request.param == "nginx" else found


@pytest.fixture(params=[False, True], ids=["plain", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


def test_every_row_is_answered_once(server: Server, stream: bool, job: Callable[..., Job], upstream: Any) -> None:
    """All rows ok with their own answers, each asked once; the usage is what the server reported, to the token."""
    one = job(server, stream=stream, concurrency=CONCURRENCY).sums(ROWS)
    before = upstream.stats()
    assert one.run() == ROWS
    results = one.assert_sums()
    assert [row["attempts"] for row in results] == [1] * ROWS
    assert {row["finish_reason"] for row in results} == {"stop"}
    assert {row["usage_source"] for row in results} == {"reported"}
    after = upstream.stats()
    if after["received"] > before["received"]:
        assert after["repeated"] == before["repeated"]
        reported = {name: after[name] - before[name] for name in ("prompt_tokens", "completion_tokens")}
    else:
        reported = {name: sum(usage_of(n)[name] for n in range(ROWS)) for name in ("prompt_tokens", "completion_tokens")}
    assert {name: one.bill()[name] for name in reported} == reported
    assert {name: sum(row[name] for row in results) for name in reported} == reported


def test_a_wrong_key_stops_the_run(server: Server, stream: bool, job: Callable[..., Job]) -> None:
    """Exit 3 after those in flight and one probe; the message names the fault and the variable that holds the key."""
    one = job(server, stream=stream, concurrency=CONCURRENCY, key="sk-wrong-0123456789abcdef").sums(ROWS)
    assert one.run(code=3) <= CONCURRENCY + 1
    one.assert_stopped("credentials", MEND["credentials"])


def test_an_unknown_model_stops_the_run(server: Server, stream: bool, job: Callable[..., Job]) -> None:
    """Exit 3 after those in flight and one probe; the message says what to look at."""
    one = job(server._replace(model="nonesuch"), stream=stream, concurrency=CONCURRENCY).sums(ROWS)
    assert one.run(code=3) <= CONCURRENCY + 1
    one.assert_stopped("not_found", MEND["not_found"])


def test_a_prompt_that_is_too_long_fails_its_row_alone(server: Server, stream: bool, job: Callable[..., Job]) -> None:
    """A context overflow is that row's `bad_request`, asked once; the others are answered; exit 1."""
    texts = [f"What is {n} + 1?" for n in range(8)]
    texts[3] = ENDLESS
    one = job(server, stream=stream, concurrency=CONCURRENCY).rows(texts)
    assert one.run(code=1) == len(texts)
    results = one.results()
    assert [row["status"] for row in results] == ["failed" if n == 3 else "ok" for n in range(8)]
    assert results[3]["error_kind"] == "bad_request"
    assert results[3]["attempts"] == 1
    assert "maximum context length" in results[3]["error_message"]


def test_check_shows_the_answer(server: Server, stream: bool, job: Callable[..., Job]) -> None:
    """`check` sends one request and shows what came back: model, finish reason, usage and the completion."""
    one = job(server, stream=stream).sums(3)
    before = server.received()
    said = one.check()
    assert server.received() == before + 1
    lines = {line.split()[0]: line for line in one.process.stdout.splitlines() if line.strip()}
    assert lines["finish_reason"].split()[1] == "stop"
    assert lines["completion"].split()[1] == "1"
    assert "tokens (reported)" in lines["usage"]
    assert f"POST {server.url}/chat/completions" in said


@pytest.mark.parametrize(
    ("kind", "key", "model"), [("credentials", "sk-wrong-0123456789", None), ("not_found", None, "nonesuch")]
)
def test_check_names_the_fault_and_the_mend(
    server: Server, kind: str, key: str | None, model: str | None, job: Callable[..., Job]
) -> None:
    """`check` sends one request, names the fault's kind and the mend, and ends with the code of a stopped run."""
    one = job(server._replace(model=model or server.model), **({"key": key} if key else {})).sums(3)
    before = server.received()
    one.check(code=3)
    assert server.received() == before + 1
    assert kind in one.process.stderr
    assert MEND[kind] in one.process.stderr
