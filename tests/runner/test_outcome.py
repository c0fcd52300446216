"""An Outcome is its own call's, whatever comes later, and shows itself (contract.md §8)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import batchrun

ROWS = [{"text": f"t{n}"} for n in range(6)]


def answering(refuse: str = "$.", status: int = 400) -> httpx.MockTransport:
    """Echoes, and refuses the texts in which `refuse`, a pattern, is found."""

    def answer(request: httpx.Request) -> httpx.Response:
        text = json.loads(request.content)["messages"][-1]["content"]
        if re.search(refuse, text):
            return httpx.Response(status, json={"error": {"message": f"no <b>{text}</b>", "type": "x"}})
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
        return httpx.Response(
            200,
            json={"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage},
        )

    return httpx.MockTransport(answer)


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., batchrun.Outcome]:
    """`batchrun.run` over ROWS in a folder of its own; the output is `out`."""
    monkeypatch.chdir(tmp_path)

    def call(wire: httpx.MockTransport | None = None, prompt: str = "{{ text }}", **more: Any) -> batchrun.Outcome:
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        tables: dict[str, Any] = {
            "input": {"path": "rows.jsonl"},
            "endpoint": {"base_url": "http://echo/v1", "model": "m"},
            "prices": {"m": {"input": 1, "output": 2}},
            **more,
            "output": {"path": "out", **more.get("output", {})},
        }
        return batchrun.run(batchrun.Job(**tables), transport=wire or answering(), environ={}, prompt=prompt)

    return call


def completions(outcome: batchrun.Outcome) -> list[str]:
    found: list[str] = outcome.results["completion"].to_pylist()
    return found


def test_a_later_run_changes_nothing(face: Callable[..., batchrun.Outcome], tmp_path: Path, monkeypatch: Any) -> None:
    """Results, bill and failures are those of the call, after another run in the same directory and in another folder."""
    first = face()
    second = face(prompt="again {{ text }}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert completions(first) == [f"t{n}" for n in range(6)]
    assert completions(second) == [f"again t{n}" for n in range(6)]
    assert first.cost_usd == second.cost_usd == pytest.approx(6 * 30e-6)
    assert first.rows[-1]["requests"] == 6
    assert first.failures.num_rows == 0
    assert first.to_pandas()["text"].tolist() == second.to_polars()["text"].to_list()
    assert first.partial is None


def test_failures_are_at_hand(face: Callable[..., batchrun.Outcome]) -> None:
    """`failures` are the failed rows, and `raise_for_status` says how many of which kind; one that is `ok` is itself."""
    outcome = face(answering("t3"))
    assert outcome.failures["text"].to_pylist() == ["t3"]
    with pytest.raises(batchrun.RunError, match=r"1 of 6 requests failed \(bad_request 1\)") as caught:
        outcome.raise_for_status()
    assert caught.value.exit_code == 1
    whole = face(output={"path": "other"})
    assert whole.raise_for_status() is whole


@pytest.mark.parametrize("single", [True, False])
def test_a_stopped_run_has_partial_results(face: Callable[..., batchrun.Outcome], single: bool) -> None:
    """Of a run that stopped, `partial` has the results so far with the input's columns, also after the next call."""
    stopped = face(answering("t[45]", status=402), limits={"concurrency": 1}, output={"single_file": single})
    assert stopped.exit_code == 3
    assert stopped.message
    with pytest.raises(batchrun.JobError, match=r"stopped with 4 of 6 requests done.*\n.*partial"):
        stopped.results  # noqa: B018
    with pytest.raises(batchrun.RunError) as caught:
        stopped.raise_for_status()
    assert caught.value.exit_code == 3
    assert stopped.rows == []
    assert stopped.cost_usd is None
    whole = face(output={"single_file": single})
    assert (whole.ok, whole.asked) == (6, 2)
    partial = stopped.partial
    assert partial["text"].to_pylist() == partial["completion"].to_pylist() == ["t0", "t1", "t2", "t3"]
    assert partial.schema.equals(whole.results.schema)
    assert stopped.failures.num_rows == 0


def test_it_shows_itself(face: Callable[..., batchrun.Outcome]) -> None:
    """In a notebook: counts, cost and the first failures, escaped; in a terminal one line."""
    outcome = face(answering("t[1-5]"), limits={"concurrency": 1}, samples=2)
    assert repr(outcome) == "<Outcome out: 2 ok, 10 failed of 12 requests, $0.0001; complete>"
    page = outcome._repr_html_()
    assert "2 ok, 10 failed of 12 requests" in page
    assert "&lt;b&gt;t1&lt;/b&gt;" in page
    assert "<b>t1" not in page
    assert "and 5 more" in page
    good = face(output={"path": "good"})._repr_html_()
    assert "6 ok, 0 failed of 6 requests, $0.0002" in good
    assert "<table" not in good
