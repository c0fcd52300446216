"""Whole runs in virtual time: from the input to the results on the disk, against an endpoint that is a function."""

import asyncio
import bisect
import itertools
import random
import signal
from email.utils import formatdate
from pathlib import Path
from typing import Any, get_args

import httpx
import pyarrow.compute as pc
import pytest

from batchrun.embedded import Behaviour
from batchrun.embedded.app import build_app
from batchrun.embedded.tokens import Tokenizer
from batchrun.events import Kept
from batchrun.ledger.journal import Journal
from batchrun.ledger.ledger import Ledger
from batchrun.ledger.lines import Line
from batchrun.report.status import read_status
from batchrun.runner import prepare
from virtual import BEGIN, EPOCH, Said, arun_virtually, job_of, prompt_of


def test_a_good_run_takes_as_long_as_its_answers(tmp_path: Path) -> None:
    """300 rows, eight in flight, two seconds an answer: 38 rounds, every place used, one request a row, all of it in the
    results with the times that the loop's clock says.
    """
    story = arun_virtually(job_of(tmp_path, 300), lambda _body, _at: "yes")
    assert story.counts() == (300, 0)
    assert story.outcome.exit_code == 0
    assert sorted(int(one.prompt) for one in story.asked) == list(range(300))
    assert story.most_in_flight == 8
    assert story.seconds == pytest.approx(38 * 2.0, abs=1.0)
    results = story.outcome.results
    assert results["latency_s"].to_pylist() == pytest.approx([2.0] * 300)
    started = pc.min_max(results["started_at"].cast("int64")).as_py()
    assert started["min"] == EPOCH * 1e6
    assert started["max"] == pytest.approx((EPOCH + 37 * 2.0) * 1e6, abs=1e6)


def test_what_is_recorded_is_synced_soon_and_nothing_wakes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record of a journal is synced within 0.2 s, also behind hours in which nothing happened; and nobody looks whether
    there is something to sync while there is nothing.
    """
    written, synced, looks = list[float](), list[float](), list[float]()
    append, sync, sync_all = Journal.append, Journal.sync, Ledger.sync

    def noted_append(journal: Journal, line: Line) -> None:
        written.append(asyncio.get_running_loop().time())
        append(journal, line)

    def noted_sync(journal: Journal) -> None:
        sync(journal)
        late.extend(now - at for at in written)
        synced.extend(written)
        written.clear()

    async def noted_sync_all(ledger: Ledger) -> None:
        nonlocal now
        now = asyncio.get_running_loop().time()
        looks.append(now)
        await sync_all(ledger)

    now, late = BEGIN, list[float]()
    monkeypatch.setattr(Journal, "append", noted_append)
    monkeypatch.setattr(Journal, "sync", noted_sync)
    monkeypatch.setattr(Ledger, "sync", noted_sync_all)
    job = job_of(tmp_path, 30, concurrency=3, timeouts={"total": 7200})
    story = arun_virtually(job, lambda body, _at: Said("yes", 0.07 if int(prompt_of(body)) < 27 else 3600.0))
    assert story.counts() == (30, 0)
    assert len(synced) >= 60
    assert max(late) <= 0.2 + 1e-6
    assert len(looks) <= story.seconds / 0.2 / 100


def test_half_a_minute_of_503_costs_no_row(tmp_path: Path) -> None:
    """An outage of 30 seconds is waited for: no row fails, few are asked in it, and the run ends soon after."""
    story = arun_virtually(job_of(tmp_path, 300), lambda _body, at: 503 if 30 <= at < 60 else "yes")
    assert story.counts() == (300, 0)
    assert story.asked_between(46, 60) < 20
    assert story.seconds < 38 * 2.0 + 30 + 15


@pytest.mark.parametrize("stated", ["60", formatdate(EPOCH + 91, usegmt=True)])
def test_a_stated_wait_holds_for_everybody(tmp_path: Path, stated: str) -> None:
    """A 429 that asks for a minute, in seconds or as a date, is asked nothing for that minute; no row fails."""

    def endpoint(_body: dict[str, Any], at: float) -> Said | str:
        if 29 <= at < 31:
            return Said(httpx.Response(429, headers={"Retry-After": stated}, json={"error": {"message": "slow"}}), 0.1)
        return "yes"

    story = arun_virtually(job_of(tmp_path, 300), endpoint)
    assert story.counts() == (300, 0)
    assert story.asked_between(30.2, 90) == 0
    assert story.seconds < 38 * 2.0 + 60 + 15


def test_a_signal_drains_what_is_in_flight_and_the_next_call_goes_on(tmp_path: Path) -> None:
    """SIGTERM in the middle: nothing new is sent, what is in flight is kept, exit 143; the same call again asks the rest."""
    job = job_of(tmp_path, 100)
    first = arun_virtually(job, lambda _body, _at: "yes", signals={5.0: signal.SIGTERM})
    assert first.outcome.exit_code == 143
    assert first.asked_between(5.0, 1e9) == 0
    assert first.outcome.ok == len(first.asked) == 24
    assert first.seconds == pytest.approx(6.0, abs=0.5)
    second = arun_virtually(job, lambda _body, _at: "yes")
    assert second.counts() == (100, 0)
    assert len(second.asked) == 76


@pytest.mark.parametrize(
    "signals",
    [
        {4.2: signal.SIGTERM, 4.3: signal.SIGTERM},  # timeout: to its child, then to the group
        {4.2: signal.SIGHUP, 4.5: signal.SIGHUP, 5.1: signal.SIGHUP},  # a shell, a multiplexer, the kernel
        {4.2: signal.SIGTERM, 4.3: signal.SIGHUP},  # a service manager
        {4.2: signal.SIGINT, 4.3: signal.SIGINT, 4.4: signal.SIGTERM},  # a terminal, and what had started the run
        {4.2: signal.SIGINT, 5.8: signal.SIGHUP},  # a person, who then closes the terminal
        {4.2: signal.SIGHUP, 5.8: signal.SIGHUP},  # a shell that took its time to go
    ],
    ids=lambda signals: ",".join(one.name for one in signals.values()),
)
def test_one_wish_in_several_signals_still_drains(tmp_path: Path, signals: dict[float, signal.Signals]) -> None:
    """What comes within a second of the first signal means what it meant, and a closed terminal hurries nobody: what is in
    flight is waited for."""
    story = arun_virtually(job_of(tmp_path, 100), lambda _body, _at: "yes", signals=signals)
    assert story.outcome.exit_code == (130 if signal.SIGINT in signals.values() else 143)
    assert story.outcome.ok == len(story.asked) == 24
    assert story.seconds == pytest.approx(6.0, abs=0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_wish_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """A signal that comes more than a second after the first does not wait for what is in flight."""
    story = arun_virtually(job_of(tmp_path, 100), lambda _body, _at: "yes", signals={4.2: signal.SIGINT, 5.3: number})
    assert story.outcome.exit_code == 130
    assert (story.outcome.ok, len(story.asked)) == (16, 24)
    assert story.seconds == pytest.approx(5.3, abs=0.3)


def test_a_drain_ends_with_its_grace(tmp_path: Path) -> None:
    """An endpoint that says nothing more is waited for as long as the grace lasts, and no longer."""
    job = job_of(tmp_path, 100, timeouts={"drain": 7.0})
    story = arun_virtually(job, lambda _body, at: "yes" if at < 4 else None, signals={10.0: signal.SIGINT})
    assert story.outcome.exit_code == 130
    assert story.outcome.ok == 16
    assert story.seconds == pytest.approx(17.0, abs=0.5)


def test_a_silent_connection_ends_with_its_timeout(tmp_path: Path) -> None:
    """A request that is never answered is given up after `total` seconds and asked again; its attempt is unconfirmed."""
    silent = {"3"}

    def endpoint(body: dict[str, Any], _at: float) -> str | None:
        prompt = body["messages"][-1]["content"]
        if prompt in silent:
            silent.discard(prompt)
            return None
        return "yes"

    story = arun_virtually(job_of(tmp_path, 20, timeouts={"total": 300.0}), endpoint)
    assert story.counts() == (20, 0)
    assert [one.at for one in story.asked if one.prompt == "3"] == [0.0, pytest.approx(300.0, abs=1.5)]
    row = story.outcome.results.slice(3, 1).to_pylist()[0]
    assert (row["attempts"], row["unconfirmed_attempts"]) == (2, 1)


def test_a_refused_connection_is_tried_again(tmp_path: Path) -> None:
    """What a transport raises is met as on the network: twenty seconds of refused connections cost no row."""
    story = arun_virtually(
        job_of(tmp_path, 200), lambda _body, at: httpx.ConnectError("refused") if 10 <= at < 30 else "yes"
    )
    assert story.counts() == (200, 0)
    assert story.seconds > 30 + 20 * 2.0


PROSE = "A carrier went down to the harbour at dawn, and nobody there had heard of the ship that he was asking for. "
CHINESE = "清晨，一位信使来到港口，没有人听说过他要找的那艘船。"
CODE = "for (i = 0; i < n; i++) { a[i] = b[i] * c[i] + d[i]; if (a[i] > 0.5) { k += 1; } }\n"


@pytest.mark.parametrize("who", ["endpoint", "user"])
@pytest.mark.parametrize("text", [CHINESE, PROSE + CHINESE + CODE], ids=["chinese", "mixed"])
@pytest.mark.parametrize("tokenizer", get_args(Tokenizer))
def test_tokens_a_minute_hold_with_any_tokenizer(tmp_path: Path, tokenizer: Tokenizer, text: str, who: str) -> None:
    """20,000 tokens a minute, allowed by the user or stated by the embedded endpoint's headers, whatever a token is to it:
    no more are taken in any minute, or nobody is refused for more, and nearly all of them are used.
    """
    limit = 20_000
    dice = random.Random(5)
    prompts = [f"{row} {text * dice.randint(1, 900 // len(text))}" for row in range(160)]
    server = Behaviour(tokenizer=tokenizer, tokens_per_minute=limit if who == "endpoint" else 0, first_token_s=0.5)
    job = job_of(
        tmp_path, prompts, params={"max_tokens": 60}, limits={"tokens_per_minute": limit} if who == "user" else {}
    )
    story = arun_virtually(job, httpx.ASGITransport(build_app(server)))
    assert story.counts() == (160, 0)
    assert [one for one in story.asked if one.status != 200] == []
    table = story.outcome.results.sort_by("started_at")
    starts = [at / 1e6 for at in table["started_at"].cast("int64").to_pylist()]
    sums = [0, *itertools.accumulate(table["total_tokens"].to_pylist())]
    assert sums[-1] / story.seconds * 60 > 0.93 * limit
    if who == "user":
        assert max(sums[bisect.bisect_left(starts, at + 60)] - sums[n] for n, at in enumerate(starts)) <= limit


def test_empty_answers_that_count_are_told(tmp_path: Path) -> None:
    """Where an answer with nothing in it is taken as one, a person learns how many there are, and how they ended."""
    story = arun_virtually(
        job_of(tmp_path, 40, retry={"empty": "ok"}), lambda body, _at: "" if int(prompt_of(body)) < 14 else "yes"
    )
    assert story.counts() == (40, 0)
    assert any(note.startswith("14 of 40 answers are empty (finish_reason stop 14)") for note in story.notes)
    assert read_status(str(tmp_path / "run"))["empty"] == {"stop": 14}


def test_a_run_that_goes_on_says_first_what_it_had(tmp_path: Path) -> None:
    """What the ledger holds, sealed or not, is told before anything is asked, with its tokens and its money; it is no pace of
    this call, nor are rows that can't be asked.
    """
    prices = {"m": {"input": 1.0, "output": 2.0}}
    job = job_of(tmp_path, 4000, concurrency=50, prices=prices)
    first = arun_virtually(job, lambda _body, _at: "yes", signals={101.0: signal.SIGTERM})
    assert first.outcome.exit_code == 143
    had = first.outcome.ok
    assert 2000 < had < 4000, "one shard is sealed, one is open"
    second = arun_virtually(job, lambda _body, _at: "yes")
    kept = next(event for _at, event in second.heard if isinstance(event, Kept))
    assert kept == Kept(had, 0, tokens=15 * had, cost=20 * 10**6 * had)
    assert second.outcome.asked == 4000 - had


def test_a_run_that_takes_up_an_unanswered_one_may_die_in_doing_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed while nobody was answered is asked again, also where the call that was to do it died before it had begun."""

    def dies(*_args: Any) -> int:
        raise RuntimeError("killed")

    job = job_of(tmp_path, 40)
    unanswered = arun_virtually(job, lambda _body, _at: 400)
    assert unanswered.outcome.exit_code == 3
    assert unanswered.outcome.failed
    with monkeypatch.context() as broken, pytest.raises(ExceptionGroup):
        broken.setattr(prepare, "reopen_failed", dies)
        arun_virtually(job, lambda _body, _at: "yes")
    assert arun_virtually(job, lambda _body, _at: "yes").counts() == (40, 0)
    again = arun_virtually(job, lambda _body, _at: "yes")
    assert (again.counts(), again.asked) == ((40, 0), [])


@pytest.mark.parametrize("again", [False, True], ids=["kept", "retried"])
def test_a_failure_that_was_to_be_asked_again_is_counted_once_after_a_death_and_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Its attempt stands in two files then, in the set-aside one with it and in the journal that it is asked again from."""

    def dies(*_args: Any) -> None:
        raise RuntimeError("killed")

    def refusing(body: dict[str, Any], _at: float) -> str | int:
        return 400 if prompt_of(body) == "bad" else "yes"

    asked = len(arun_virtually(job_of(tmp_path, ["good", "bad"]), refusing).asked)
    with monkeypatch.context() as broken, pytest.raises(ExceptionGroup):
        broken.setattr(prepare.Preparation, "_remember", dies)
        arun_virtually(job_of(tmp_path, ["good", "bad"]), refusing, retry_failed=True)
    story = arun_virtually(job_of(tmp_path, ["good", "bad"], samples=2), lambda _body, _at: "yes", retry_failed=again)
    results = story.outcome.results
    assert sum(results["attempts"].to_pylist()) == asked + len(story.asked)
    assert story.counts() == ((4, 0) if again else (3, 1))


def test_a_server_that_fails_every_row_in_the_same_words_gets_few_requests(tmp_path: Path) -> None:
    """Where it never answered, a 500 with one text, but for its ids, stops the run: after those in flight and ten more."""

    def says(_body: dict[str, Any], at: float) -> Said | str:
        return Said(httpx.Response(500, json={"error": {"message": f"Engine core failed (id req-{at})"}}), 0.05)

    story = arun_virtually(job_of(tmp_path, 100), says)
    assert story.outcome.exit_code == 3
    assert "Engine core failed" in (story.outcome.message or "")
    assert len(story.asked) <= 8 + 10


def test_an_answer_that_counts_as_none_is_kept_with_its_failure(tmp_path: Path) -> None:
    """It was paid for: what came of the last attempt, its reasoning and its finish reason stand in the failed result."""
    body = {
        "id": "r-1",
        "model": "m",
        "choices": [{"message": {"content": "<think>well, that is", "reasoning": "hm"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }
    story = arun_virtually(job_of(tmp_path, 1), lambda _body, _at: Said(httpx.Response(200, json=body), 0.1))
    row = story.outcome.failures.to_pylist()[0]
    assert (row["error_kind"], row["attempts"], row["total_tokens"]) == ("empty_output", 3, 8)
    assert (row["completion"], row["reasoning"]) == ("<think>well, that is", "hm")
    assert (row["finish_reason"], row["response_id"]) == ("stop", "r-1")
