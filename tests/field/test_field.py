"""The program on its command line against rough servers: what each kind of them may cost a person, and what is said.

The table is the document: a scenario of scenarios.py, the job, and what must come of it. The long stories, of limits and of
outages, are told in virtual time (test_hours.py).
"""

import collections
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from .scenarios import STATUSES
from .server import SCENARIOS, Server, serving

OWN_PRICES = '[prices."m"]\ninput = 1.0\ncached_input = 0.1\noutput = 10.0\n'
HASTE = 20
"""The runs' own time passes so many times as fast: between two probes it is a second or twenty."""
A_ROW_USD = (100 * 1.0 + 10 * 10.0) / 1e6
"""What a row costs at OWN_PRICES, with the server's usual usage."""


class Case(NamedTuple):
    """`rows` of `line` are asked, with `flags`, a job's `tables` and more lines of its `[endpoint]`. Expected: `code`, all
    rows ok but the `failed` ones, by kind where one kind is right, no more than `most` requests (None: as many as rows), every
    text of `says` on stderr or in a failed row's message, `cost_usd` on the bill where it isn't None, and so many attempts that
    are unconfirmed (None: any).
    """

    scenario: str
    rows: int = 20
    flags: str = ""
    tables: str = ""
    endpoint: str = ""
    base: str = "/v1"
    model: str = "m"
    code: int = 0
    failed: int | dict[str, int] = 0
    most: int | None = None
    says: tuple[str, ...] = ()
    cost_usd: float | None = None
    unconfirmed: int | None = 0
    line: Callable[[int], dict[str, Any]] = lambda row: {"prompt": f"row {row} please"}


def mixed(row: int) -> dict[str, Any]:
    """A batch line; one in four is for embeddings."""
    if row % 4:
        return {"custom_id": f"{row}", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [said(row)]}}
    return {"custom_id": f"{row}", "url": "/v1/embeddings", "body": {"model": "m", "input": f"row {row} please"}}


def said(row: int) -> dict[str, str]:
    return {"role": "user", "content": f"row {row} please"}


CASES = [
    Case("no_choices", code=1, failed={"malformed": 2}, most=24, tables=OWN_PRICES, cost_usd=(18 + 6) * A_ROW_USD),
    Case(
        "stream_breaks_with_a_price", flags="--stream", most=25, tables=OWN_PRICES,
        cost_usd=20 * A_ROW_USD + 5 * (100 * 1.0 + 40 * 10.0) / 1e6,
    ),
    Case("another_name", tables=OWN_PRICES, cost_usd=20 * A_ROW_USD),
    Case("reasoning_counted_apart", tables=OWN_PRICES, cost_usd=20 * (100 * 1.0 + 300 * 10.0) / 1e6),
    Case(
        "only_reasoning", rows=4, flags="--param max_tokens=10", code=1, failed={"empty_output": 4},
        tables=OWN_PRICES, cost_usd=4 * A_ROW_USD, says=("max_tokens",),
    ),
    Case("finishes_without_an_answer", most=25, tables=OWN_PRICES, cost_usd=20 * A_ROW_USD + 5 * 100 * 1.0 / 1e6),
    Case("large_header"),
    Case("many_headers"),
    Case("length_beside_chunked"),
    Case("length_twice"),
    Case("rubbish_behind_the_body", rows=60, flags="--concurrency 4"),
    Case("no_length_and_open", rows=4, flags="--timeout 600"),
    Case("bytes_behind_the_body", rows=60, flags="--concurrency 4"),
    Case("early_hints"),
    Case("no_reason_phrase"),
    Case("bare_line_ends"),
    Case("old_http"),
    Case("header_in_chinese"),
    Case("trailers"),
    Case("chunked_twice"),
    Case("closes_soon_after", rows=60, flags="--concurrency 4", most=80, unconfirmed=None),
    Case("redirects", code=3, most=30, says=("redirect", "http://elsewhere.example/v1/chat/completions")),
    Case("odd_statuses", most=20 + len(STATUSES), failed={"bad_request": 3}, code=1, unconfirmed=None),
    Case(
        "too_large_for_the_gateway", rows=10, failed={"bad_request": 1}, code=1,
        line=lambda row: {"prompt": f"row {row} " + "x" * (20_000 if row == 3 else 10)},
    ),
    Case("empty_at_first", most=27, tables=OWN_PRICES, cost_usd=20 * A_ROW_USD + 7 * 100 * 1.0 / 1e6),
    Case(
        "empty_for_ever", code=1, failed={"empty_output": 1}, most=22, tables=OWN_PRICES,
        cost_usd=19 * A_ROW_USD + 3 * 100 * 1.0 / 1e6,
    ),
    Case("filtered", code=1, failed={"content_filter": 4}),
    Case("thinks_aloud"),
    Case("stream_breaks", flags="--stream", most=25, unconfirmed=5),
    Case("stream_with_strange_events", flags="--stream"),
    Case("cache_in_another_spelling", tables=OWN_PRICES, cost_usd=20 * (100 * 1.0 + 900 * 0.1 + 10 * 10.0) / 1e6),
    Case("states_its_price", tables=OWN_PRICES, cost_usd=20 * A_ROW_USD),
    Case("gateway_gives_up", tables=OWN_PRICES, most=24, unconfirmed=4, cost_usd=20 * A_ROW_USD),
    Case("parameter_refused", rows=100, flags="--param max_tokens=10 --concurrency 8", code=3, most=18, says=("max_tokens",)),
    Case(
        "firewall", rows=100, code=1, failed=5, most=110, flags="--concurrency 4", says=("a firewall before the endpoint",),
        line=lambda row: {"prompt": f"row {row} please" + " DROP TABLE b;" * (row % 20 == 3)},
    ),
    Case("chat_alone", flags="--concurrency 4", code=1, failed={"not_found": 5}, most=26, line=mixed),
    Case("tls_only", rows=200, flags="--concurrency 8", code=3, most=18, says=("speaks TLS",)),
    Case("not_an_api", rows=200, flags="--concurrency 8", code=3, most=18),
    Case(
        "deployment", base="/openai/deployments/prod/chat/completions?api-version=2024-10-21",
        endpoint='headers = { "api-key" = "${AZURE_KEY}" }\n',
    ),
    Case("refused_in_words", rows=100, flags="--concurrency 8", code=3, most=18, says=("pinned to another model",)),
    Case("refused_by_a_path_in_the_body", rows=100, flags="--concurrency 8", code=3, most=18, says=("temperature",)),
    # its time passes faster here: a moment in which the machine is busy is long enough for some rows to be asked again
    Case("the_same_500", rows=100, flags="--concurrency 8", code=3, most=18 + 8, says=("Engine core failed",)),
    Case(
        "firewall", rows=60, code=1, failed=3, most=70, flags="--concurrency 2",
        line=lambda row: {"prompt": f"row {row} please" + " DROP TABLE b;" * (row < 3)},
    ),
    Case("challenge", rows=100, flags="--concurrency 8", code=3, most=18, says=("challenge",)),
    Case("slower_than_allowed", rows=100, flags="--timeout 0.3 --concurrency 8", code=3, most=18, says=("[timeouts] total",)),
    Case("one_at_a_time_or_broken", rows=60, most=200, unconfirmed=None, says=("at once",)),
    Case("day_is_over", tables="[retry]\nlongest_wait_s = 3600\n", flags="--concurrency 2", code=3, most=13, says=("until",)),
]  # fmt: skip


def ran(batchrun: Callable[..., Any], case: Case, server: Server, folder: Path) -> Any:
    """Run the case's job in a folder, to its end."""
    lines = (json.dumps(case.line(row)) + "\n" for row in range(case.rows))
    (folder / "rows.jsonl").write_text("".join(lines))
    url = server.url.removesuffix("/v1") + case.base
    (folder / "job.toml").write_text(
        f'[input]\npath = "rows.jsonl"\n[endpoint]\nmodel = "{case.model}"\nbase_url = "{url}"\n{case.endpoint}'
        f'[output]\npath = "out"\n{case.tables}'
    )
    flags = case.flags.split()
    limit = [] if "--timeout" in flags else ["--timeout", str(5 * HASTE)]  # what hangs shall not take the suite along
    return batchrun("run", "job.toml", *flags, *limit, cwd=folder, env={"AZURE_KEY": "azure-secret"}, haste=HASTE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.scenario)
def test_a_rough_server(batchrun: Callable[..., Any], case: Case, tmp_path: Path) -> None:
    """The exit code, the results by kind, the requests that it took, what was said, and a bill that equals the results."""
    with serving(SCENARIOS[case.scenario]) as server:
        process = ran(batchrun, case, server, tmp_path)
    said = process.stderr
    assert process.returncode == case.code, said
    assert server.received <= (case.rows if case.most is None else case.most)
    assert "Traceback" not in said
    if case.code == 3:
        assert [text for text in case.says if text not in said] == [], said
        return
    results = pq.read_table(tmp_path / "out/results.parquet").to_pylist()
    assert len(results) == case.rows
    failed = [one for one in results if one["status"] == "failed"]
    said += "\n".join(one["error_message"] for one in failed)
    assert [text for text in case.says if text not in said] == [], said
    kinds = collections.Counter(one["error_kind"] for one in failed)
    assert case.failed in (kinds, len(failed))
    assert all(one["completion"] for one in results if one["status"] == "ok")
    assert case.unconfirmed in (None, sum(one["unconfirmed_attempts"] for one in results))
    costs = [one["cost_usd"] for one in results]
    bill = pq.read_table(tmp_path / "out/cost_summary.parquet").to_pylist()[-1]["cost_usd"]
    known = None if None in costs else math.fsum(costs)
    assert bill == (known if known is None else pytest.approx(known))
    if case.cost_usd is not None:
        assert bill == pytest.approx(case.cost_usd)


def test_every_scenario_is_played() -> None:
    """No scenario stands in the table's way without being run."""
    assert {case.scenario for case in CASES} <= SCENARIOS.keys()
