"""A batch file of chats, completions, responses and embeddings, from the file to the results (contract.md §4, §6, §7)."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.embedded import Fault

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "batch_mixed.jsonl"
VECTORS = ("embedding", "embeddings")


@pytest.fixture
def mixed(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The sample's lines as the input of a job, against an endpoint of its own."""

    def make(**behaviour: Any) -> Any:
        job = start(**behaviour)
        (tmp_path / "rows.jsonl").write_bytes(SAMPLE.read_bytes())
        return job

    return make


def by_id(job: Any) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in job.results()}


def embedding(text: str) -> str:
    return json.dumps({"custom_id": text, "url": "/v1/embeddings", "body": {"input": text}}) + "\n"


def test_a_mixed_file(mixed: Callable[..., Any]) -> None:
    """Each line is asked at its URL, once, and read back: texts with their ends, vectors unrounded, usage of each."""
    job = mixed()
    assert job.run("--stream") == 9
    found = by_id(job)
    assert {name: one["status"] for name, one in found.items()} == dict.fromkeys(found, "ok")
    texts = {"chat-1": "Oslo", "chat-2": "51", "completion-1": "42", "response-1": "Nairobi", "response-2": "12"}
    assert {name: found[name]["completion"] for name in texts} == texts
    assert {found[name]["finish_reason"] for name in texts} == {"stop"}
    assert found["completion-2"]["finish_reason"] == "length"
    assert found["response-1"]["response_id"].startswith("resp_")
    assert all(one["prompt_tokens"] > 0 and one["usage_source"] == "reported" for one in found.values())
    one, coded, several = (found[f"embedding-{number}"] for number in (1, 2, 3))
    assert (len(one["embedding"]), one["embeddings"]) == (16, None)
    assert (len(coded["embedding"]), coded["embeddings"]) == (16, None)
    assert (several["embedding"], [len(vector) for vector in several["embeddings"]]) == (None, [8, 8])
    for vector in (one["embedding"], coded["embedding"], *several["embeddings"]):
        assert math.isclose(sum(number * number for number in vector), 1, abs_tol=1e-5)
    assert one["embedding"][0] == round(one["embedding"][0], 7), "as it was sent"
    assert sum(a * b for a, b in zip(one["embedding"], coded["embedding"], strict=True)) > 0.7
    assert all(found[name][column] is None for name in texts for column in VECTORS)
    names = pq.read_schema(job.out / "results.parquet").names
    assert names[-3:] == ["request_hash", *VECTORS]
    assert job.run("--stream") == 0
    assert by_id(job) == found


def test_a_mixed_file_is_gone_on_with(mixed: Callable[..., Any]) -> None:
    """After a stop the vectors and texts that were there are kept, exactly, and nothing is asked twice."""
    job = mixed(faults=(Fault(status=402, match="red scarf", times=2),))
    first = job.run("--concurrency", "1", code=3)
    assert first >= 9
    assert job.status()["done"] == 8
    assert job.run() == 1
    assert job.endpoint.stats()["repeated"] == 0
    assert [one["status"] for one in job.results()] == ["ok"] * 9
    before = by_id(job)
    lines = SAMPLE.read_text().splitlines(keepends=True)
    (job.folder / "rows.jsonl").write_text("".join([*reversed(lines), embedding("new")]))
    assert job.run("--quiet") == 1
    kept = by_id(job)
    assert [one["id"] for one in job.results()][:9] == [one["id"] for one in before.values()][::-1]
    for name, one in before.items():
        assert {key: kept[name][key] for key in ("completion", *VECTORS)} == {
            key: one[key] for key in ("completion", *VECTORS)
        }


def test_columns_follow_the_job_as_a_whole(start: Callable[..., Any]) -> None:
    """Without embeddings the columns are contract.md's, an input's own `embedding` among the input's; with a line of them
    all parts have both columns, those of shards that were sealed before too, and no answer is asked again."""
    job = start()
    chats = "".join(json.dumps({"prompt": f"What is {n} + 1?", "embedding": [n]}) + "\n" for n in range(2003))
    (job.folder / "rows.jsonl").write_text(chats)
    assert job.run() == 2003
    names = pq.read_schema(job.out / "results.parquet").names
    assert names[:2] == ["prompt", "embedding"]
    assert names[-1] == "request_hash"
    (job.folder / "rows.jsonl").write_text(chats + embedding("a text"))
    assert job.run() == 1
    table = pq.read_table(job.out / "results.parquet")
    assert pq.ParquetFile(job.out / "results.parquet").num_row_groups == 2
    assert "input_embedding" in table.column_names
    assert table.column_names[-2:] == list(VECTORS)
    assert table.schema.field("embedding").type == pa.list_(pa.float64())
    assert table["embedding"].null_count == 2003
    assert table["completion"].to_pylist()[:2003] == [str(n + 1) for n in range(2003)]
    (job.folder / "rows.jsonl").write_text(chats)
    assert job.run() == 0
    assert pq.read_schema(job.out / "results.parquet").names == names
    assert job.endpoint.stats()["repeated"] == 0


def test_answers_are_reused_with_their_vectors(mixed: Callable[..., Any]) -> None:
    """`reuse` and `--samples` treat vectors as any answer; `raw` keeps the body beside them."""
    job = mixed()
    assert job.run() == 9
    found = by_id(job)
    toml = f'reuse = ["{job.out}"]\n[input]\npath = "rows.jsonl"\n[output]\nraw = true\nsingle_file = false\n'
    (job.folder / "job.toml").write_text(toml)
    process = job.batchrun(
        "run", "job.toml", "--model", "m", "--base-url", job.endpoint.url, "-o", "again", cwd=job.folder
    )
    assert process.returncode == 0, process.stderr
    assert job.endpoint.received == 9
    table = pq.read_table(job.folder / "again" / "results")
    assert table.column_names[-3:] == [*VECTORS, "response"]
    again = {one["id"]: one for one in table.to_pylist()}
    assert {name: again[name]["embeddings"] for name in found} == {
        name: one["embeddings"] for name, one in found.items()
    }
    assert {name: again[name]["embedding"] for name in found} == {name: one["embedding"] for name, one in found.items()}


def test_an_endpoint_without_a_path(batchrun: Callable[..., Any], tmp_path: Path) -> None:
    """A line whose URL is none of those that are known is reported with its place, and nothing is sent."""
    (tmp_path / "rows.jsonl").write_text('{"custom_id":"a","url":"/v1/moderations","body":{"input":"x"}}\n')
    process = batchrun("run", "rows.jsonl", "--model", "m", "--base-url", "embedded:", cwd=tmp_path)
    assert process.returncode == 2
    assert "rows.jsonl:1" in process.stderr
    assert "/v1/embeddings" in process.stderr


def test_check_shows_the_url_of_the_line(endpoint: Any, batchrun: Callable[..., Any], tmp_path: Path) -> None:
    """`check` names the URL that is really asked, and how many numbers a vector has; `plan` estimates no answer tokens."""
    (tmp_path / "rows.jsonl").write_text(embedding("a text"))
    flags = ("rows.jsonl", "--model", "m", "--base-url", endpoint.url)
    process = batchrun("check", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"POST {endpoint.url}/embeddings" in process.stdout
    assert "1 of 16 numbers" in process.stdout
    assert "at most 0 " in batchrun("plan", *flags, cwd=tmp_path).stdout
