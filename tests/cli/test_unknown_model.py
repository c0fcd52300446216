"""A sweep with a model that the endpoint does not have, from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_sweep_with_an_unknown_model(batchrun: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path) -> None:
    """`check` asks once for each model and set of parameters, and not for a variant that only says something else; it names the
    one that fails, with exit code 3. `run` does all the others, is 3 too, and says what is left; the model once corrected,
    the same command asks just that.
    """
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "What is {n} + 1?"}}\n' for n in range(30)))

    def job(*models: str) -> None:
        (tmp_path / "job.toml").write_text(
            f'[input]\npath = "rows.jsonl"\n[endpoint]\nbase_url = "{endpoint.url}"\n[output]\npath = "out"\n'
            f'[sweep]\nmodel = {list(models)}\ntemperature = [0, 1]\nsystem = ["Be brief.", "Be kind."]\n'
        )

    with serve(models=("m1", "m2")) as endpoint:
        job("nonesuch", "m1", "m2")
        shown = batchrun("check", "job.toml", cwd=tmp_path)
        assert (shown.returncode, endpoint.received) == (3, 6), shown.stderr
        assert "6 variants differ in model or parameters: one request each" in shown.stderr
        lines = shown.stdout.strip().splitlines()[-6:]
        assert [line.partition(":")[0] for line in lines[:3]] == [
            f"model={model},temperature=0,system=Be brief." for model in ("nonesuch", "m1", "m2")
        ]
        assert [": ok, " in line for line in lines] == [False, True, True, False, True, True]
        assert "model=nonesuch,temperature=0,system=Be brief.: not_found: HTTP 404" in shown.stderr
        ran = batchrun("run", "job.toml", "--concurrency", "4", cwd=tmp_path)
        assert ran.returncode == 3, ran.stderr
        assert "the endpoint does not answer for model nonesuch (variants model=nonesuch,temperature=0" in ran.stderr
        assert "120 requests are left" in ran.stderr
        status = batchrun("status", "out", cwd=tmp_path)
        assert "stopped: 240/360 requests done (66.7 %), 0 failed, 120 left" in status.stdout
        job("m1", "m2")
        before = endpoint.received
        assert batchrun("run", "job.toml", cwd=tmp_path).returncode == 0
        assert endpoint.received == before, "what was answered stays"
