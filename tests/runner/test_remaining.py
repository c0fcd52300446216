"""`plan` says what is left, as the run then finds it; and it looks without touching anything."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.job import merged
from batchrun.runner import assembly
from virtual import arun_virtually, job_of

Change = Callable[[batchrun.Job, Path], batchrun.Job]


def _prompts(numbers: range | list[int]) -> Change:
    def change(job: batchrun.Job, folder: Path) -> batchrun.Job:
        rows = "".join(json.dumps({"prompt": f"{number}"}) + "\n" for number in numbers)
        (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
        return job

    return change


def _set(**changes: Any) -> Change:
    return lambda job, _folder: merged(job, {name.replace("__", "."): value for name, value in changes.items()})


def _sweep(*models: str) -> Change:
    return _set(sweep={"model": list(models)})


def _as_it_is(job: batchrun.Job, _folder: Path) -> batchrun.Job:
    return job


CHANGES: dict[str, Change] = {
    "the same again": _as_it_is,
    "a model more": _sweep("a", "b", "c"),
    "a model less": _sweep("b"),
    "a lower limit": _set(input__limit=20),
    "a prompt that is another": _set(prompt={"system": "Be brief."}),
    "a row inserted": _prompts([5000, *range(44)]),
    "rows appended": _prompts(range(50)),
    "rows taken out, others twice": _prompts([*range(5, 40), *range(5, 9)]),
    "other columns": _set(output__raw=True),
    "a where": _set(input__where="prompt > '5'"),
}


def _files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with when it was changed and what is in it."""
    found = sorted(one for one in folder.rglob("*") if one.is_file())
    return {str(one): (one.stat().st_mtime_ns, one.read_bytes()) for one in found}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "SHARD_REQUESTS", 30)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_plan_says_is_left_is_what_the_run_asks(tmp_path: Path, change: Change) -> None:
    """After a stop: as it was, and with whatever was changed since; then changed back."""
    job = merged(job_of(tmp_path, 44, concurrency=12), {"sweep": {"model": ["a", "b"]}})
    assert arun_virtually(job, _answer, signals={7.0: signal.SIGTERM}).outcome.exit_code == 143
    _holds(change(job, tmp_path), tmp_path)
    _holds(job, tmp_path)


@pytest.mark.parametrize("name", ["the same again", "a model more", "a lower limit", "rows taken out, others twice"])
def test_a_complete_run_is_planned_alike(tmp_path: Path, name: str) -> None:
    """What it has in one file counts as what it had in parts."""
    job = merged(job_of(tmp_path, 44, concurrency=12), {"sweep": {"model": ["a", "b"]}})
    assert arun_virtually(job, _answer).outcome.exit_code == 0
    _holds(CHANGES[name](job, tmp_path), tmp_path)


def _holds(job: batchrun.Job, folder: Path) -> None:
    """What a plan says is left is asked, and nothing is left afterwards. It changes no file of the run."""
    before = _files(folder / "run")
    outlook = batchrun.plan(job)
    assert _files(folder / "run") == before
    asked = len(arun_virtually(job, _answer).asked)
    assert (outlook.left, sum(one.left for one in outlook.each)) == (asked, asked)
    assert outlook.left + outlook.done == outlook.requests
    done = batchrun.plan(job)
    assert (done.left, done.done, done.prompt_tokens, done.most_usd) == (0, done.requests, 0, 0.0)


def _answer(_body: dict[str, Any], _at: float) -> str:
    return "yes"


def test_failures_stay_done_and_are_counted(tmp_path: Path) -> None:
    """They are no requests that are left, whether their shard is sealed or not; rows that can't be asked are among them."""
    job = merged(job_of(tmp_path, 210), {"input.on_bad_row": "fail"})
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("not a row\n")

    def endpoint(body: dict[str, Any], _at: float) -> str | int:
        return 400 if body["messages"][-1]["content"] in ("7", "205") else "yes"

    assert batchrun.plan(job).left == 210
    first = arun_virtually(job, endpoint, signals={27.0: signal.SIGTERM})
    assert first.outcome.exit_code == 143
    outlook = batchrun.plan(job)
    # the shard that the bad row stands in had not begun
    assert (outlook.left, outlook.requests) == (210 - first.outcome.ok - first.outcome.failed, 211)
    assert arun_virtually(job, endpoint).counts() == (208, 3)
    outlook = batchrun.plan(job)
    assert (outlook.left, outlook.done, outlook.failed) == (0, 211, 3)
    outlook = batchrun.plan(merged(job, {"input.limit": 10}))
    assert (outlook.left, outlook.done, outlook.failed) == (0, 10, 1)


def test_other_runs_answers_are_not_left(tmp_path: Path) -> None:
    """`reuse` is drawn upon, each answer once."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    arun_virtually(job_of(tmp_path / "one", ["a", "b", "b"]), _answer)
    job = job_of(tmp_path / "two", ["b", "b", "b", "c"], reuse=[str(tmp_path / "one" / "run")])
    assert batchrun.plan(job).left == 2
    assert len(arun_virtually(job, _answer).asked) == 2
    assert batchrun.plan(job).left == 0


def test_what_failed_while_nobody_was_answered_is_left(tmp_path: Path) -> None:
    """It is asked again with the others, and so is no part of what is done."""
    job = job_of(tmp_path, 50)
    first = arun_virtually(job, lambda _body, _at: 400)
    assert (first.outcome.exit_code, first.outcome.ok) == (3, 0)
    assert first.outcome.failed > 0
    assert batchrun.plan(job).left == 50
    assert len(arun_virtually(job, _answer).asked) == 50


def test_costs_are_of_what_is_left_and_an_unpriced_model_is_named(tmp_path: Path) -> None:
    """Each model and variant with its own; a sum that lacks a price says how many requests it leaves out."""
    job = job_of(tmp_path, 60, prices={"a": {"input": 1.0, "output": 2.0}}, params={"max_tokens": 10})
    job = merged(job, {"sweep": {"model": ["a", "unheard-of"], "temperature": [0, 1]}})
    whole = batchrun.plan(job)
    assert (whole.unpriced, whole.unpriced_models) == (120, ["unheard-of"])
    stopped = arun_virtually(job, _answer, signals={21.0: signal.SIGTERM}).outcome
    assert 60 < stopped.ok < 100
    left = batchrun.plan(job)
    share = left.left / whole.left
    assert (left.left, left.price_source) == (240 - stopped.ok, "job")
    for name in ("prompt_tokens", "prompt_usd", "most_usd", "most_completion_tokens"):
        assert getattr(left, name) == pytest.approx(share * getattr(whole, name), rel=0.03), name
    lines = [(one.variant, one.model, one.unpriced == one.left, one.prompt_usd is None) for one in left.each]
    assert lines == [
        ("model=a,temperature=0", "a", False, False),
        ("model=a,temperature=1", "a", False, False),
        ("model=unheard-of,temperature=0", "unheard-of", True, True),
        ("model=unheard-of,temperature=1", "unheard-of", True, True),
    ]
    assert batchrun.plan(merged(job, {"limits.requests_per_minute": 60})).at_least_s == left.left


def test_a_plan_needs_no_key(tmp_path: Path) -> None:
    """Neither the variable of the key nor those of headers and of who is told: nothing is sent."""
    endpoint = {"base_url": "http://endpoint.test/v1", "model": "m", "api_key_env": "NOWHERE_KEY"}
    job = merged(
        job_of(tmp_path, 3),
        {"endpoint": {**endpoint, "headers": {"x-key": "${NOWHERE_ELSE}"}}, "notify": {"url": "${NOWHERE_URL}"}},
    )
    assert batchrun.plan(job, environ={}).left == 3
    with pytest.raises(batchrun.JobError, match="may be the key itself"):
        batchrun.plan(merged(job, {"endpoint.api_key_env": "sk-0123456789abcdef0123456789"}), environ={})
