"""A model that the endpoint does not have stops its own variant alone: whole runs, in virtual time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import batchrun
from batchrun.events import Absent
from batchrun.job import merged
from virtual import Said, arun_virtually, job_of

NO_MODEL = {"type": "invalid_request_error", "param": None}
REFUSALS: dict[str, tuple[int, Any]] = {
    "openai": (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found", **NO_MODEL}}),
    "openai, no right": (
        403,
        {"error": {"message": "Project `p` does not have access to model `x`", "code": "model_not_found", **NO_MODEL}},
    ),
    "no right, no code": (403, {"error": {"message": "You are not allowed to sample from this one", **NO_MODEL}}),
    "vllm": (
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
    ),
    "litellm": (400, {"error": {"message": "/chat/completions: Invalid model name passed in model=x", "code": "400"}}),
    "litellm, no right": (
        401,
        {"error": {"message": "key not allowed to access model", "code": "key_model_access_denied"}},
    ),
    "in words": (400, {"error": {"message": "model x does not exist"}}),
    "unknown": (400, {"detail": "Unknown Model, please check the model code."}),
    "new-api": (503, {"error": {"message": "no available channel for model x", "code": "model_not_found"}}),
    "bare": (404, {"detail": "Not Found"}),
    "a page": (404, None),
}


def endpoint(known: set[str], refusal: str = "openai") -> Callable[[dict[str, Any], float], Said | str]:
    """One that answers for some models, a second each; a refusal comes at once."""
    status, body = REFUSALS[refusal]

    def says(request: dict[str, Any], _at: float) -> Said | str:
        if request["model"] in known:
            return Said("yes", 1.0)
        response = httpx.Response(status, json=body) if body else httpx.Response(status, html="<h1>404 Not Found</h1>")
        return Said(response, 0.1)

    return says


def sweep(folder: Path, rows: int, *models: str, **tables: Any) -> batchrun.Job:
    return merged(job_of(folder, rows, **tables), {"sweep": {"model": list(models)}})


@pytest.mark.parametrize(
    ("refusal", "rows", "models"),
    [
        *((refusal, 1, ("a", "x")) for refusal in REFUSALS),
        *((refusal, 30, ("x", "a")) for refusal in REFUSALS),
        ("openai", 120, ("a", "x")),
        ("no right, no code", 120, ("a", "x")),
    ],
)
def test_an_unknown_model_stops_its_variant_alone(
    tmp_path: Path, refusal: str, rows: int, models: tuple[str, ...]
) -> None:
    """The other model's rows are all answered, its own are left and none is failed; few were asked. The run ends with exit 3
    and says which, why and what to do. Once the model is there, the next call asks just what was left.
    """
    job = sweep(tmp_path, rows, *models)
    story = arun_virtually(job, endpoint({"a"}, refusal))
    assert (story.outcome.exit_code, story.counts()) == (3, (rows, 0)), story.notes
    assert story.outcome.partial["variant"].to_pylist() == ["model=a"] * rows
    message = story.outcome.message or ""
    assert "model x (variant model=x)" in message
    assert f"{rows} requests are left" in message
    assert "asks only what is left" in message
    refused = sum(one.status != 200 for one in story.asked)
    assert 2 <= refused <= 2 * 12 + 4
    assert [event.model for _at, event in story.heard if isinstance(event, Absent)] == ["x"]
    again = arun_virtually(job, endpoint({"a", "x"}))
    assert (again.outcome.exit_code, again.counts(), len(again.asked)) == (0, (2 * rows, 0), rows)


@pytest.mark.parametrize("known", ["0", "9", "34", "012345678"])
@pytest.mark.parametrize(("rows", "refusal"), [(1, "openai"), (30, "bare")])
def test_of_ten_models_those_that_are_there_are_asked(tmp_path: Path, known: str, rows: int, refusal: str) -> None:
    """However many are unknown, and wherever they stand."""
    job = sweep(tmp_path, rows, *(f"m{number}" for number in range(10)))
    story = arun_virtually(job, endpoint({f"m{number}" for number in known}, refusal))
    assert (story.outcome.exit_code, story.counts()) == (3, (rows * len(known), 0)), story.outcome.message
    assert story.seconds < rows * len(known) / 8 + 60
    again = arun_virtually(job, endpoint({f"m{number}" for number in range(10)}))
    assert len(again.asked) == rows * (10 - len(known))


@pytest.mark.parametrize("models", [("x",), ("x", "y"), tuple(f"x{number}" for number in range(10))], ids=len)
@pytest.mark.parametrize(("rows", "refusal"), [(1, "openai"), (60, "bare"), (60, "no right, no code")])
def test_where_every_model_is_unknown_the_run_stops(
    tmp_path: Path, models: tuple[str, ...], rows: int, refusal: str
) -> None:
    """Soon, after one look at each, with everything still to be done."""
    story = arun_virtually(sweep(tmp_path, rows, *models), endpoint(set(), refusal))
    assert (story.outcome.exit_code, story.counts()) == (3, (0, 0))
    assert len(story.asked) <= 12 + 2 * len(models) + 2
    assert story.seconds < 10
    assert "check" in (story.outcome.message or "")


def test_a_model_that_stays_unknown_is_never_failed(tmp_path: Path) -> None:
    """Call after call the few requests to it are left, with exit 3: they are no failures of theirs."""
    job = sweep(tmp_path, 3, "a", "x")
    for asked in (3, 0, 0):
        story = arun_virtually(job, endpoint({"a"}))
        assert (story.outcome.exit_code, story.counts()) == (3, (3, 0))
        assert sum(one.status == 200 for one in story.asked) == asked


def test_a_model_that_a_row_names_is_that_rows_affair(tmp_path: Path) -> None:
    """One row of many with a model of its own that is not there fails, and the run is complete."""
    job = job_of(tmp_path, 40)
    with Path(str(job.input.path)).open("a") as file:
        file.write(json.dumps({"prompt": "odd", "params": {"model": "x"}}) + "\n")
    story = arun_virtually(job, endpoint({"m"}))
    assert (story.outcome.exit_code, story.counts()) == (1, (40, 1))
    assert story.outcome.failures["error_kind"].to_pylist() == ["not_found"]


def test_a_model_that_is_refused_for_a_moment_is_asked(tmp_path: Path) -> None:
    """A router that loads it, or a pool with one bad key, says no once or for a second: nothing is left."""

    def says(body: dict[str, Any], at: float) -> Said | str:
        gone = body["model"] == "x" and at < 1.5
        return endpoint(set() if gone else {"a", "x"})(body, at)

    story = arun_virtually(sweep(tmp_path, 60, "a", "x"), says)
    assert (story.outcome.exit_code, story.counts()) == (0, (120, 0))


def test_a_model_that_has_answered_is_waited_for(tmp_path: Path) -> None:
    """Where it vanishes later it is as with an endpoint that is down: the run is paused until it is there again."""

    def says(body: dict[str, Any], at: float) -> Said | str:
        gone = body["model"] == "x" and 10 < at < 60
        return endpoint({"a"} if gone else {"a", "x"})(body, at)

    story = arun_virtually(sweep(tmp_path, 100, "a", "x"), says)
    assert (story.outcome.exit_code, story.counts()) == (0, (200, 0))


def test_a_model_that_vanishes_for_good_is_left(tmp_path: Path) -> None:
    """After a minute; what it has answered stays, and none of its rows fails."""

    def says(body: dict[str, Any], at: float) -> Said | str:
        return endpoint({"a", "x"} if at < 10 else {"a"})(body, at)

    story = arun_virtually(sweep(tmp_path, 100, "a", "x"), says)
    ok, failed = story.counts()
    assert (story.outcome.exit_code, failed) == (3, 0)
    assert 130 <= ok <= 150
    assert f"{200 - ok} requests are left" in (story.outcome.message or "")
    assert story.seconds < 10 + 60 + 25 + 30


def test_rows_that_are_refused_like_a_model_fail_by_themselves(tmp_path: Path) -> None:
    """A router that has no place for some rows, and says that the model is not there: the others are answered."""

    def says(body: dict[str, Any], at: float) -> Said | str:
        odd = int(body["messages"][-1]["content"]) % 10 == 3
        return endpoint(set() if odd else {"a", "x"})(body, at)

    story = arun_virtually(sweep(tmp_path, 200, "a", "x"), says)
    assert (story.outcome.exit_code, story.counts()) == (1, (360, 40))
    assert len(story.asked) < 400 + 40
    assert story.seconds < 360 / 8 + 45


def test_a_firewall_is_no_absent_model(tmp_path: Path) -> None:
    """A first row of each variant that is refused for what it says fails by itself, and the others are answered."""

    def says(body: dict[str, Any], at: float) -> Said | str:
        if body["messages"][-1]["content"] == "0":
            return Said(httpx.Response(403, html="<title>Access denied</title>"), 0.1)
        return Said("yes", 1.0)

    story = arun_virtually(sweep(tmp_path, 60, "a", "x"), says)
    assert (story.outcome.exit_code, story.counts()) == (1, (118, 2)), story.outcome.message


@pytest.mark.parametrize("rows", [6, 12, 20])
@pytest.mark.parametrize("at", [0, 3, -3, -1])
@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_one_row_of_few_that_is_refused_like_a_model_fails_by_itself(
    tmp_path: Path, rows: int, at: int, seconds: float
) -> None:
    """Also where all others are done before it is known: the model has answered others since the row was refused. Only of the
    very last row to be sent nothing tells that; it is left then, never failed.
    """
    refused = str(at % rows)

    def says(request: dict[str, Any], _at: float) -> Said | str:
        if request["messages"][-1]["content"] == refused:
            return Said(httpx.Response(*REFUSALS["openai"][:1], json=REFUSALS["openai"][1]), 0.01)
        return Said("yes", seconds)

    story = arun_virtually(job_of(tmp_path, rows, concurrency=4), says)
    ok, failed = story.counts()
    assert ok == rows - 1
    assert (failed, story.outcome.exit_code) in ([(1, 1)] if at != -1 else [(1, 1), (0, 3)])
