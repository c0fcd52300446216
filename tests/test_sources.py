"""What `batchrun.run` takes, and from where it can be called (contract.md §8)."""

import asyncio
import datetime
import decimal
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batchrun

DICTS = [{"id": f"r{n}", "text": f"t{n}", "n": n} for n in range(4)]


class Answering(httpx.MockTransport):
    """Answers with the last message's text, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        text = json.loads(request.content)["messages"][-1]["content"]
        self.asked.append(text)
        message = {"role": "assistant", "content": text}
        return httpx.Response(
            200,
            json={
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            },
        )


@pytest.fixture
def wire() -> Answering:
    return Answering()


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: Answering) -> Callable[..., batchrun.Outcome]:
    """`batchrun.run` in a folder of its own, against an endpoint that echoes."""
    monkeypatch.chdir(tmp_path)

    def call(source: Any, **settings: Any) -> batchrun.Outcome:
        given = {"base_url": "http://echo/v1", "model": "m", "prompt": "{{ text }}", "environ": {}, **settings}
        return batchrun.run(source, transport=wire, **given)

    return call


def generator() -> Iterator[dict[str, Any]]:
    yield from DICTS


class Mapped(dict[str, Any]):
    """A mapping that is no plain dict."""


SOURCES: dict[str, Callable[[], Any]] = {
    "a list of dicts": lambda: DICTS,
    "a tuple of mappings": lambda: tuple(map(Mapped, DICTS)),
    "a generator": generator,
    "a pyarrow table": lambda: pa.Table.from_pylist(DICTS),
    "a record batch reader": lambda: pa.Table.from_pylist(DICTS).to_reader(2),
    "a pandas frame": lambda: pd.DataFrame(DICTS),
    "a pandas frame with an index": lambda: pd.DataFrame(DICTS, index=list("abcd")),
    "a slice of a pandas frame": lambda: pd.DataFrame([*DICTS, *DICTS])[:4],
    "a polars frame": lambda: pl.DataFrame(DICTS),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_rows_in_memory(face: Callable[..., batchrun.Outcome], wire: Answering, make: Callable[[], Any]) -> None:
    """Rows in every form give the same results with the same columns; the same rows again have nothing to do."""
    outcome = face(make())
    assert (outcome.ok, outcome.exit_code) == (4, 0)
    results = outcome.results
    assert results.column_names[:3] == ["input_id", "text", "n"]
    assert results["completion"].to_pylist() == ["t0", "t1", "t2", "t3"]
    assert results["id"].to_pylist() == ["r0", "r1", "r2", "r3"]
    assert results["n"].to_pylist() == [0, 1, 2, 3]
    assert face(make()).asked == 0
    assert len(wire.asked) == 4
    assert [path.name.partition("-")[0] for path in Path("runs").iterdir()] == ["rows"]


def test_other_rows_have_a_run_of_their_own(face: Callable[..., batchrun.Outcome]) -> None:
    """Without `output`, other rows don't put the results of the first ones out of sight."""
    first, second = face(DICTS), face(DICTS[:2])
    assert first.path != second.path
    assert (first.results.num_rows, second.results.num_rows) == (4, 2)


def test_values_of_other_libraries(face: Callable[..., batchrun.Outcome]) -> None:
    """numpy's scalars and arrays, paths, dates and decimals in a dict are what JSON has for them; NaN is null."""
    row = {
        "text": "x",
        "a": np.int64(3),
        "b": np.array([1.5, 2.5]),
        "c": Path("a/b"),
        "d": datetime.date(2024, 1, 2),
        "e": decimal.Decimal("1.5"),
        "f": np.float32(0.5),
    }
    found = face([row]).results.to_pylist()[0]
    assert (found["a"], found["b"], found["c"], found["f"]) == (3, [1.5, 2.5], "a/b", 0.5)


WRONG: dict[str, tuple[Any, str]] = {
    "a number": (5, "a source is a path, a Job, a list of dicts, an arrow table or a data frame, not int"),
    "nothing": (None, "not NoneType"),
    "one dict": ({"text": "x"}, "not dict"),
    "a lazy frame": (pl.DataFrame(DICTS).lazy(), "call its collect() first"),
    "texts": (["a", "b"], "row 0 of the source is str; give dicts"),
    "a value without JSON": ([{"text": "x"}, {"text": object()}], "row 1 of the source: a value of the type object"),
    "a set": ([{"text": {1j}}], "row 0 of the source"),
    "a missing file": (Path("none.jsonl"), "none.jsonl: no such file"),
}


@pytest.mark.parametrize(("source", "says"), WRONG.values(), ids=WRONG)
def test_a_source_that_is_none(face: Callable[..., batchrun.Outcome], source: Any, says: str) -> None:
    """What is no source is a JobError that says what is one."""
    with pytest.raises(batchrun.JobError) as caught:
        face(source)
    assert says in str(caught.value)
    assert not Path("runs").exists()


async def test_inside_a_running_loop(face: Callable[..., batchrun.Outcome], wire: Answering) -> None:
    """`run`, `check` and `plan` work where an event loop runs already, as in a notebook's cell."""
    settings: dict[str, Any] = {"base_url": "http://echo/v1", "model": "m", "prompt": "{{ text }}", "environ": {}}
    assert asyncio.get_running_loop().is_running()
    assert batchrun.plan(DICTS, **settings).requests == 4
    trial = batchrun.check(DICTS, transport=wire, **settings)
    assert trial.answer is not None
    assert trial.answer.completion == "t0"
    assert face(DICTS).ok == 4
    with pytest.raises(batchrun.JobError, match="no model"):
        face(DICTS, model=None, output="other")


async def test_awaited(face: Callable[..., batchrun.Outcome], wire: Answering) -> None:
    """`arun`, `aplan` and `acheck` take the same sources."""
    settings: dict[str, Any] = {"base_url": "http://echo/v1", "model": "m", "prompt": "{{ text }}", "environ": {}}
    assert (await batchrun.aplan(generator(), **settings)).rows == 4
    assert (await batchrun.acheck(pl.DataFrame(DICTS), transport=wire, **settings)).answer is not None
    assert (await batchrun.arun(DICTS, transport=wire, **settings)).ok == 4


def test_in_threads(face: Callable[..., batchrun.Outcome]) -> None:
    """Runs go on side by side in threads, also with `signals`, which only the main thread can hear."""
    found: list[batchrun.Outcome] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(face(DICTS, output=f"out{n}", signals=True))) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.path for outcome in found) == ["out0", "out1", "out2"]
    assert all(outcome.ok == 4 for outcome in found)


def test_output_is_a_path(face: Callable[..., batchrun.Outcome], tmp_path: Path) -> None:
    """`output` may be a Path; so may `prompt_file`."""
    (tmp_path / "p.txt").write_text("<{{ text }}>")
    outcome = face(DICTS, output=tmp_path / "there", prompt=None, prompt_file=tmp_path / "p.txt")
    assert outcome.results["completion"].to_pylist()[0] == "<t0>"
    assert (tmp_path / "there/results.parquet").exists()
