"""What was asked stands in the results: the parameters in which variants differ, and the messages as sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

JOB = """
samples = 2
[input]
path = "rows.jsonl"
[prompt]
system = "Be brief."
user = "Say {{ text }}"
[endpoint]
model = "m"
[sweep]
temperature = [0, 0.5]
[output]
path = "out"
prompt = %s
"""


def test_the_prompt_as_sent_is_kept(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """With `[output] prompt` every result has its messages as JSON; switched on or off later, nothing is asked again, and the
    results have the column or not. `param_NAME` is there in both.
    """
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "one", "prompt": "mine"}\n{"text": "zw\u00f6lf", "prompt": "mine"}\n'
    )

    def run(kept: str) -> Any:
        (tmp_path / "job.toml").write_text(JOB % kept)
        process = batchrun("run", "job.toml", "--base-url", endpoint.url, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        table = pq.read_table(tmp_path / "out" / "results.parquet")
        assert table["param_temperature"].type == pa.float64()
        assert table["param_temperature"].to_pylist() == [0.0, 0.0, 0.5, 0.5] * 2
        return table

    first = run("true")
    asked = [json.loads(text) for text in first["prompt"].to_pylist()]
    for number, text in ((0, "Say one"), (7, "Say zw\u00f6lf")):
        assert asked[number] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    assert first["input_prompt"].to_pylist() == ["mine"] * 8
    second = run("false")
    assert second["prompt"].to_pylist() == ["mine"] * 8
    assert second["response_id"].to_pylist() == first["response_id"].to_pylist()
    assert run("true").equals(first)


def test_batch_lines_keep_what_stands_for_messages(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """Of an embedding it is the input; a line that can't be asked has none."""
    lines = [
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": ["x", "y"]}},
        {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = '[input]\npath = "rows.jsonl"\non_bad_row = "fail"\n'
    job += '[output]\nprompt = true\npath = "out"\n'
    (tmp_path / "job.toml").write_text(job)
    assert batchrun("run", "job.toml", "--base-url", endpoint.url, cwd=tmp_path).returncode == 1
    assert pq.read_table(tmp_path / "out" / "results.parquet")["prompt"].to_pylist() == ['["x","y"]', None]
