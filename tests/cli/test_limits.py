"""Limits of requests and tokens, seen from the command line (contract.md §7.5, endpoint.md §5)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.embedded import parse_faults

ROWS = 40
REFUSED = {"status": 401, "match": "What is 4", "body": {"error": {"message": "no", "code": "invalid_api_key"}}}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Prompts of about 60 tokens, the last of about 2,000."""
    path = tmp_path / "rows.jsonl"
    prompts = [f"{number}: {'word ' * 40}" for number in range(ROWS - 1)] + ["word " * 1600]
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


@pytest.mark.parametrize("limits", [{"tokens_per_minute": 120_000}, {"requests_per_minute": 3_000}], ids=str)
def test_what_the_endpoint_states_is_told(
    batchrun: Callable[..., Any], serve: Callable[..., Any], rows: Path, tmp_path: Path, limits: dict[str, int]
) -> None:
    """A limit that stands in the headers is told, once. (That it is kept is shown in virtual time, where it takes none.)"""
    (unit, most), *_ = limits.items()
    with serve(**limits) as endpoint:
        flags = (rows, "--model", "m", "--base-url", endpoint.url, "--concurrency", "4", "-o", tmp_path / "out")
        process = batchrun("run", *flags, "--progress", "log")
        assert process.returncode == 0, process.stderr
    assert (
        process.stderr.count(f"the endpoint allows {most:,} {unit.partition('_')[0]} a minute for m: that is kept") == 1
    )


def test_a_row_larger_than_the_whole_limit_fails_and_says_so(
    batchrun: Callable[..., Any], endpoint: Any, rows: Path, tmp_path: Path
) -> None:
    """A prompt that no minute has room for is a failed row that was never sent; all others are answered."""
    before = endpoint.received
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[-3:]))
    flags = (rows, "--model", "m", "--base-url", endpoint.url, "--param", "max_tokens=20", "-o", tmp_path / "out")
    process = batchrun("run", *flags, "--tpm", "1000")
    assert process.returncode == 1, process.stderr
    assert endpoint.received == before + 2
    *ok, failed = pq.read_table(tmp_path / "out/results.parquet").to_pylist()
    assert [one["status"] for one in ok] == ["ok", "ok"]
    assert (failed["status"], failed["error_kind"], failed["attempts"]) == ("failed", "bad_request", 0)
    assert "larger than the whole limit" in failed["error_message"]
    assert "tokens_per_minute is 1000" in failed["error_message"]


def test_an_answer_larger_than_the_whole_limit_stops_before_anything_is_sent(
    batchrun: Callable[..., Any], endpoint: Any, rows: Path, tmp_path: Path
) -> None:
    """`max_tokens` above the limit of tokens would refuse every row: bad usage, and nothing is sent or written."""
    before = endpoint.received
    flags = (rows, "--model", "m", "--base-url", endpoint.url, "--tpm", "1000", "--param", "max_tokens=2000")
    process = batchrun("run", *flags, "-o", tmp_path / "out")
    assert process.returncode == 2
    assert "params.max_tokens = 2000 is more than limits.tokens_per_minute = 1000" in process.stderr
    assert endpoint.received == before
    assert not (tmp_path / "out").exists()


def test_plan_reckons_with_the_limits_and_check_shows_the_endpoints(
    batchrun: Callable[..., Any], serve: Callable[..., Any], rows: Path, tmp_path: Path
) -> None:
    """`plan` says how long the stated limits take at least, the tighter one; `check` what the endpoint states of its own."""
    with serve(requests_per_minute=500, tokens_per_minute=200_000) as endpoint:
        flags = (rows, "--model", "m", "--base-url", endpoint.url, "-o", tmp_path / "out")
        assert "at least 24 s at the stated limits" in batchrun("plan", *flags, "--rpm", "100").stdout
        tokens = int(batchrun("plan", *flags, "--tpm", "1000").stdout.partition("at least ")[2].partition(" s")[0])
        assert 200 <= tokens <= 400
        checked = batchrun("check", *flags)
    assert checked.returncode == 0
    assert "500 requests (499 left), 200,000 tokens (199," in checked.stdout


@pytest.mark.parametrize("last", [1, 3])
def test_the_last_rows_cannot_stop_a_run_for_ever(
    batchrun: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path, last: int
) -> None:
    """Rows that alone are refused as a wrong key would be, and are the last ones left, stop the run; the same command then
    finds them failed rows, and comes to an end.
    """
    rows = tmp_path / "rows.jsonl"
    numbers = (0, 1, 2, 3, 4, 40, 41)[: 4 + last]
    rows.write_text("".join(json.dumps({"prompt": f"What is {number} + 1?"}) + "\n" for number in numbers))
    (fault,) = parse_faults(json.dumps([REFUSED]))
    with serve(faults=(fault,)) as endpoint:
        flags = (rows, "--model", "m", "--base-url", endpoint.url, "--concurrency", "2", "-o", tmp_path / "out")
        assert batchrun("run", *flags, "--limit", "4").returncode == 0
        assert batchrun("run", *flags, haste=20).returncode == 3
        process = batchrun("run", *flags, haste=20)
        assert process.returncode == 1, process.stderr
        assert endpoint.received <= 4 + 4 * last
    results = pq.read_table(tmp_path / "out/results.parquet").to_pylist()
    assert [one["status"] for one in results] == ["ok"] * 4 + ["failed"] * last
    assert results[-1]["error_kind"] == "credentials"
