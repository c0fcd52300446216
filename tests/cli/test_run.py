"""`batchrun run` as its user sees it: exit codes, run directory, result columns (contract.md §3, §4, §6)."""

import gzip
import json
import stat
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
REVIEW = "Review: {{ text }}\nLabel it positive, negative or neutral."
QUESTION = "{{ question }}"
SAMPLES = {
    "batch.jsonl": (),
    "chat_parts.jsonl": ("--model", "m"),
    "prompts.jsonl": ("--model", "m", "--no-stream"),
    "reviews.jsonl": ("--model", "m", "--prompt", REVIEW),
    "questions.parquet": ("--model", "m", "--prompt", QUESTION),
}

# contract.md §6
COLUMNS = pa.schema(
    {
        "row": pa.int64(),
        "id": pa.string(),
        "variant": pa.string(),
        "sample": pa.int32(),
        "status": pa.string(),
        "completion": pa.string(),
        **dict.fromkeys(("finish_reason", "refusal", "reasoning", "tool_calls"), pa.string()),
        **dict.fromkeys(("model", "endpoint", "response_id", "system_fingerprint"), pa.string()),
        "created": pa.int64(),
        **dict.fromkeys(
            ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens"), pa.int64()
        ),
        "usage_source": pa.string(),
        "cost_usd": pa.float64(),
        "attempts": pa.int32(),
        "unconfirmed_attempts": pa.int32(),
        "latency_s": pa.float64(),
        "first_token_s": pa.float64(),
        "started_at": pa.timestamp("us", tz="UTC"),
        "error_kind": pa.string(),
        "error_status": pa.int32(),
        "error_message": pa.string(),
        "request_hash": pa.string(),
    }
)
SUMMARY_COLUMNS = (
    *("endpoint", "model", "variant", "requests", "ok", "failed", "attempts", "unconfirmed_attempts"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens"),
    *("input_cost_usd", "output_cost_usd", "cost_usd", "price_source"),
    *("latency_p50_s", "latency_p90_s", "latency_p99_s", "first_token_p50_s", "output_tokens_per_s"),
    *("started_at", "finished_at"),
)
SUMMED = (
    *("attempts", "unconfirmed_attempts"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens"),
)


def read_input(path: Path) -> tuple[dict[str, list[Any]], pa.Schema | None]:
    """A sample's columns as Python values, and its types where the file states them; never through the package."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table.to_pydict(), table.schema
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: [record.get(name) for record in records] for name in names}, None


def plain(value: Any) -> Any:
    """A value without what Arrow adds to it: nulls for absent fields, JSON text for a column of mixed shapes."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return plain(json.loads(value))
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def out(
    batchrun: Callable[..., Any], endpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Any, Path]]:
    """Run a sample file once for this file of tests; returns the process and its run directory."""
    done: dict[str, tuple[Any, Path]] = {}

    def get(name: str) -> tuple[Any, Path]:
        if name not in done:
            folder = tmp_path_factory.mktemp("run") / "out"
            done[name] = (
                batchrun("run", f"samples/{name}", *SAMPLES[name], "--base-url", endpoint.url, "-o", folder),
                folder,
            )
        return done[name]

    return get


@pytest.fixture(scope="module")
def sweep(
    batchrun: Callable[..., Any], endpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, pa.Table, pa.Table]:
    """20 rows × 4 variants × 2 samples of a priced job: (process, results, cost summary)."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "job.toml").write_text(
        f"""samples = 2
[input]
path = "{ROOT}/samples/prompts.jsonl"
[endpoint]
base_url = "{endpoint.url}"
[sweep]
model = ["a", "b"]
temperature = [0.0, 0.7]
[prices.a]
input = 0.1
output = 0.7
[prices.b]
input = 0.33
cached_input = 0.033
output = 1.1
[output]
path = "out"
"""
    )
    process = batchrun("run", "job.toml", cwd=folder)
    return process, pq.read_table(folder / "out/results.parquet"), pq.read_table(folder / "out/cost_summary.parquet")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_runs(out: Callable[[str], Any], name: str) -> None:
    """Exit 0; one `ok` result a row in input order; the input's columns first and as they were, then §6's."""
    process, folder = out(name)
    assert process.returncode == 0, process.stderr
    (source, schema), results = read_input(ROOT / "samples" / name), pq.read_table(folder / "results.parquet")
    rows = len(next(iter(source.values())))
    assert results["row"].to_pylist() == list(range(rows))
    assert results["status"].to_pylist() == ["ok"] * rows
    assert None not in results["completion"].to_pylist()
    assert set(results["finish_reason"].to_pylist()) <= {"stop", "length"}
    assert f"{rows} ok, 0 failed of {rows} requests" in process.stdout

    names = [f"input_{name}" if name in COLUMNS.names else name for name in source]
    width = len(names)
    assert results.column_names[:width] == names
    for theirs, ours in zip(source, names, strict=True):
        assert plain(results[ours].to_pylist()) == plain(source[theirs]), theirs
    if schema is not None:
        assert results.schema.types[:width] == schema.types

    assert results.column_names[width:] == COLUMNS.names
    assert results.schema.types[width:] == COLUMNS.types


def test_ids_come_from_the_input(out: Callable[[str], Any]) -> None:
    """The id is `custom_id`, else `id`, else the row number as text; a colliding `id` column stays as `input_id`."""
    ids = {name: pq.read_table(out(name)[1] / "results.parquet")["id"].to_pylist() for name in SAMPLES}
    assert ids["batch.jsonl"][:2] == ["request-01", "request-02"]
    assert ids["prompts.jsonl"][:2] == ["p01", "p02"]
    assert ids["reviews.jsonl"][:2] == ["0", "1"]
    assert pq.read_table(out("prompts.jsonl")[1] / "results.parquet")["input_id"].to_pylist() == ids["prompts.jsonl"]


def test_the_run_directory(out: Callable[[str], Any]) -> None:
    """A complete run leaves results, summary, run.json and its log; only their owner may read them."""
    _, folder = out("prompts.jsonl")
    found = {path.name for path in folder.iterdir() if path.is_file()}
    assert found == {"results.parquet", "cost_summary.parquet", "run.json", "log.jsonl"}
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["job"]["endpoint"]["model"] == "m"
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert list(pq.read_schema(folder / "cost_summary.parquet").names) == list(SUMMARY_COLUMNS)


def test_streamed_and_plain_answers_are_the_same(
    batchrun: Callable[..., Any], endpoint: Any, out: Callable[[str], Any], tmp_path: Path
) -> None:
    """`--stream` and `--no-stream` give the same completions, tokens and request hashes; only one has a first token."""
    folder = tmp_path / "out"
    sent = batchrun(
        "run", "samples/prompts.jsonl", "--model", "m", "--stream", "--base-url", endpoint.url, "-o", folder
    )
    assert sent.returncode == 0, sent.stderr
    streamed, plain = (pq.read_table(path / "results.parquet") for path in (folder, out("prompts.jsonl")[1]))
    for name in ("completion", "finish_reason", "prompt_tokens", "completion_tokens", "usage_source", "request_hash"):
        assert streamed[name].to_pylist() == plain[name].to_pylist(), name
    assert streamed["first_token_s"].null_count == 0
    assert plain["first_token_s"].null_count == plain.num_rows


@pytest.mark.parametrize("form", ["gz", "zst", "directory", "glob", "parquet", "bom, CRLF and blank lines"])
def test_every_form_of_an_input_gives_the_same_results(
    batchrun: Callable[..., Any], endpoint: Any, out: Callable[[str], Any], tmp_path: Path, form: str
) -> None:
    """Compressed, cut into several files, as Parquet or with a BOM: the same rows give the same results."""
    data = (ROOT / "samples/prompts.jsonl").read_bytes()
    lines = data.splitlines(keepends=True)
    folder = tmp_path / "in"
    folder.mkdir()
    source = folder / f"rows.jsonl.{form}"
    if form == "gz":
        source.write_bytes(gzip.compress(data))
    elif form == "zst":
        with pa.CompressedOutputStream(str(source), "zstd") as stream:
            stream.write(data)
    elif form == "parquet":
        source = folder / "rows.parquet"
        pq.write_table(pj.read_json(ROOT / "samples/prompts.jsonl"), source, row_group_size=7)
    elif form in ("directory", "glob"):
        (folder / "a.jsonl").write_bytes(b"".join(lines[:9]))
        (folder / "b.jsonl").write_bytes(b"".join(lines[9:]))
        source = folder if form == "directory" else folder / "*.jsonl"
    else:
        source = folder / "rows.jsonl"
        source.write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n\r\n"))
    target = tmp_path / "out"
    process = batchrun("run", source, "--model", "m", "--base-url", endpoint.url, "-o", target)
    assert process.returncode == 0, process.stderr
    expected, found = (pq.read_table(path / "results.parquet") for path in (out("prompts.jsonl")[1], target))
    assert found.schema == expected.schema
    for name in ("prompt", "system", "row", "id", "status", "completion", "total_tokens", "request_hash"):
        assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_a_sweep_with_samples(sweep: tuple[Any, pa.Table, pa.Table]) -> None:
    """Rows × variants × samples results, in (row, variant, sample) order, each of the model its variant names."""
    process, results, _ = sweep
    assert process.returncode == 0, process.stderr
    names = [f"model={model},temperature={heat}" for model in "ab" for heat in ("0.0", "0.7")]
    found = list(zip(*(results[name].to_pylist() for name in ("row", "variant", "sample")), strict=True))
    assert found == [(row, name, sample) for row in range(20) for name in names for sample in range(2)]
    assert all(
        model == variant[6] for model, variant in zip(*map(_list, (results["model"], results["variant"])), strict=True)
    )
    prompts = [json.loads(line)["prompt"] for line in (ROOT / "samples/prompts.jsonl").read_text().splitlines()]
    assert results["prompt"].to_pylist() == [prompt for prompt in prompts for _ in range(8)]


def test_the_bill_equals_the_results(sweep: tuple[Any, pa.Table, pa.Table]) -> None:
    """Every variant's row and the total are the sums over results.parquet: tokens as integers, cost as exact decimals."""
    process, results, summary = sweep
    rows, total = summary.to_pylist()[:-1], summary.to_pylist()[-1]
    assert total["model"] == "total"
    assert [row["variant"] for row in rows] == list(dict.fromkeys(results["variant"].to_pylist()))
    assert all(row["price_source"] == "job" for row in rows)
    everything = results.to_pylist()
    for row in (*rows, total):
        mine = [one for one in everything if row is total or one["variant"] == row["variant"]]
        assert (row["requests"], row["ok"], row["failed"]) == (len(mine), len(mine), 0)
        for name in SUMMED:
            assert row[name] == sum(one[name] or 0 for one in mine), name
        cost = sum((exact(one["cost_usd"]) for one in mine), Decimal(0))
        assert cost > 0
        assert exact(row["cost_usd"]) == cost
        assert exact(row["input_cost_usd"]) + exact(row["output_cost_usd"]) == cost
        assert row["latency_p50_s"] <= row["latency_p90_s"] <= row["latency_p99_s"]
        assert row["started_at"] <= row["finished_at"]
    prices = {"a": ("0.1", "0.1", "0.7"), "b": ("0.33", "0.033", "1.1")}
    for one in everything:
        full, cached, output = (Decimal(price) for price in prices[one["model"]])
        cheap = one["cached_tokens"] or 0
        micro = (one["prompt_tokens"] - cheap) * full + cheap * cached + one["completion_tokens"] * output
        assert exact(one["cost_usd"]) == micro / 10**6
    assert "total" in process.stdout


def test_results_open_in_pandas_polars_and_duckdb(out: Callable[[str], Any], sweep: Any, tmp_path: Path) -> None:
    """The usual readers take results.parquet as it is, nested columns and all."""
    for name, column in (("chat_parts.jsonl", "messages"), ("questions.parquet", "question")):
        file = out(name)[1] / "results.parquet"
        rows = pq.read_metadata(file).num_rows
        assert next(iter(pd.read_parquet(file).columns)) in (column, "input_id")
        assert pl.read_parquet(file)[column].len() == rows
        with duckdb.connect() as database:
            counted = database.execute(
                f"select count(*), sum(total_tokens) from '{file}' where status = 'ok'"
            ).fetchone()
        assert counted is not None
        assert counted == (rows, pl.read_parquet(file)["total_tokens"].sum())


def test_a_failed_row_is_data(batchrun: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path) -> None:
    """A request that the endpoint refuses is a `failed` result with its reason; the others are `ok`, and the exit is 1."""
    fault = {"status": 400, "match": "haiku", "body": {"error": {"message": "no verse here", "type": "x"}}}
    with serve(faults=(_fault(fault),)) as endpoint:
        process = batchrun(
            *("run", "samples/prompts.jsonl", "--model", "m", "--base-url", endpoint.url, "-o", tmp_path / "out")
        )
        assert process.returncode == 1
        assert endpoint.received == 20, "a refusal is not asked again"
    assert "19 ok, 1 failed of 20 requests" in process.stdout
    results = pq.read_table(tmp_path / "out/results.parquet").to_pylist()
    assert Counter(one["status"] for one in results) == {"ok": 19, "failed": 1}
    failed = next(one for one in results if one["status"] == "failed")
    assert "haiku" in failed["prompt"]
    assert (failed["row"], failed["id"], failed["completion"]) == (1, "p02", None)
    assert (failed["error_kind"], failed["error_status"], failed["attempts"]) == ("bad_request", 400, 1)
    assert "no verse here" in failed["error_message"]
    total = pq.read_table(tmp_path / "out/cost_summary.parquet").to_pylist()[-1]
    assert (total["requests"], total["ok"], total["failed"]) == (20, 19, 1)


def test_rows_that_pass_after_a_fault(
    batchrun: Callable[..., Any], serve: Callable[..., Any], out: Callable[[str], Any], tmp_path: Path
) -> None:
    """Faults that pass are asked again, unseen in the results but for their count of attempts."""
    faults = ({"action": "reset", "match": "haiku", "times": 1}, {"status": 503, "match": "bakery", "times": 1})
    with serve(faults=tuple(map(_fault, faults))) as endpoint:
        process = batchrun(
            *("run", "samples/prompts.jsonl", "--model", "m", "--base-url", endpoint.url, "-o", tmp_path / "out")
        )
    assert process.returncode == 0, process.stderr
    found, expected = (pq.read_table(path / "results.parquet") for path in (tmp_path / "out", out("prompts.jsonl")[1]))
    assert found["completion"].to_pylist() == expected["completion"].to_pylist()
    assert found["attempts"].to_pylist() == [2, 2] + [1] * 18


def test_an_unknown_flag_is_bad_usage(batchrun: Callable[..., Any], endpoint: Any) -> None:
    """A flag that does not exist is exit 2 and named."""
    before = endpoint.received
    process = batchrun("run", "samples/prompts.jsonl", "--base-url", endpoint.url, "--no-such", "flag")
    assert process.returncode == 2
    assert "--no-such" in process.stderr
    assert endpoint.received == before


def exact(value: float) -> Decimal:
    """A double as the decimal that it prints as."""
    return Decimal(repr(value))


def _list(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _fault(settings: dict[str, Any]) -> Any:
    from batchrun.embedded import parse_faults

    return parse_faults(json.dumps(settings))[0]
