"""`batchrun plan` as people read it, beside a run and after it."""

import json
from collections.abc import Callable
from typing import Any


def test_plan_beside_a_run_and_after_it(start: Callable[..., Any]) -> None:
    """It takes no lock and is in nobody's way; the words, the table and `--json` say the same. A complete run has nothing left,
    with exit code 0, and no table of nothing.
    """
    job = start(slots=4, first_token_s=0.03)
    job.rows(range(200))
    (job.folder / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[endpoint]\napi_key_env = "NOWHERE_KEY"\n[sweep]\nmodel = ["own", "odd"]\n'
        "[params]\nmax_tokens = 20\n[prices.own]\ninput = 1.0\noutput = 2.0\n"
    )
    flags = ("job.toml", "--base-url", job.endpoint.url, "-o", "out")
    job.source = "job.toml"
    job.args = lambda *more: ("run", *flags, *more)
    with job.running("--concurrency", "4", "--api-key-env", "PATH", received=40):
        shown = job.batchrun("plan", *flags, cwd=job.folder)
        assert job.status()["state"] == "running"
    assert shown.returncode == 0, shown.stderr
    lines = dict(line.split(maxsplit=1) if line.count("  ") else (line, "") for line in shown.stdout.splitlines())
    assert "are done)" in shown.stdout
    assert "no price for odd (" in lines["cost"]
    assert 'give [prices."odd"] in the job' in lines["cost"]
    head, _rule, own, odd = shown.stdout.splitlines()[-4:]
    assert head.split()[:3] == ["model", "to", "ask"]
    assert (own.split()[0], odd.split()[0], odd.split()[-1]) == ("own", "odd", "–")
    job.run("--api-key-env", "PATH")
    shown = job.batchrun("plan", *flags, cwd=job.folder)
    assert (shown.returncode, "to be asked    0: nothing is left (400 are done)" in shown.stdout) == (0, True)
    assert "cost" not in shown.stdout
    told = json.loads(job.batchrun("plan", *flags, "--json", "--limit", "10", cwd=job.folder).stdout)
    assert (told["left"], told["done"], told["each"][1]["model"]) == (0, 20, "odd")
