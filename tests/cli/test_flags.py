"""Flags as they are meant: they win, they show no secret, and a run without rows does no harm (contract.md §2, §4)."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer

from batchrun.embedded import parse_faults

JOB = """[input]
path = "rows.jsonl"
[prompt]
user = "What is {{ n }} + 1?"
[endpoint]
base_url = "URL"
model = "m"
"""


@pytest.fixture
def call(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> Callable[..., Any]:
    """Write job.toml (with `more` at its end) and three rows, and run `batchrun ARGS…` there."""
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(3)))

    def calling(*args: object, more: str = "", **others: Any) -> Any:
        (tmp_path / "job.toml").write_text(JOB.replace("URL", endpoint.url) + more)
        return batchrun(*args, cwd=tmp_path, **others)

    return calling


def results(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "out/results.parquet").to_pylist()
    return found


SWEPT = """[sweep]
model = ["a", "b"]
temperature = [0.0, 1.0]
[[variant]]
name = "short"
model = "c"
system = "Be short."
"""


def test_a_flag_wins_over_the_sweep(call: Callable[..., Any], tmp_path: Path) -> None:
    """A model given as a flag is every variant's; what it replaces is said, and the rest of the sweep stays."""
    process = call("run", "job.toml", "-o", "out", "--model", "z", more=SWEPT)
    assert process.returncode == 0, process.stderr
    assert "left out of the job: sweep.model, variant.short.model" in process.stderr
    assert {(one["variant"], one["model"]) for one in results(tmp_path)} == {
        ("temperature=0.0", "z"),
        ("temperature=1.0", "z"),
        ("short", "z"),
    }


@pytest.mark.parametrize(
    ("flags", "lost"),
    [
        (("--param", "temperature=0.3"), "sweep.temperature"),
        (("--system", "Be kind."), "variant.short.system"),
        (("--prompt", "{{ n }}?"), "sweep.user"),
        (("--no-stream",), "sweep.stream"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_any_flag_wins_over_the_sweep(call: Callable[..., Any], flags: tuple[str, ...], lost: str) -> None:
    """So do parameters, prompts and streaming."""
    more = SWEPT.replace("[[", 'user = ["{{ n }}"]\nstream = [true]\n[[')
    process = call("plan", "job.toml", *flags, more=more)
    assert process.returncode == 0, process.stderr
    assert call("run", "job.toml", "-o", "out", *flags, more=more).stderr.count(f"left out of the job: {lost}\n") == 1


def test_a_prompt_wins_over_messages(call: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """`--prompt` replaces `[prompt] messages` too."""
    job = (
        JOB.replace("URL", endpoint.url)
        .replace('user = "', 'messages = [{role = "user", content = "')
        .replace('?"', '?"}]')
    )
    (tmp_path / "other.toml").write_text(job)
    process = call("run", "other.toml", "-o", "out", "--prompt", "What is {{ n + 1 }} + 1?")
    assert process.returncode == 0, process.stderr
    assert [one["completion"] for one in results(tmp_path)] == ["2", "3", "4"]


KEYS = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
    "gsk_AbCdEfGhIjKlMnOp",
    "AIzaSyD0123456789abcdef",
    "0123456789abcdef0123456789abcdef",
    "abcdef0123456789abcdef0123456789",
    "Bearer sk-x",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_given_for_its_variable_is_not_shown(call: Callable[..., Any], tmp_path: Path, key: str) -> None:
    """`--api-key-env` with the key itself is exit 2, and no output and no file repeats it; in a job file neither."""
    for command in (("run", "job.toml", "-o", "out"), ("check", "job.toml"), ("--debug", "plan", "job.toml")):
        process = call(*command, "--api-key-env", key)
        assert process.returncode == 2
        assert key not in process.stdout + process.stderr
        assert "OPENAI_API_KEY" in process.stderr
    process = call("serve", "--api-key-env", key)
    assert process.returncode == 2
    assert key not in process.stderr
    assert not (tmp_path / "out").exists()


def test_a_long_value_gives_a_short_name(call: Callable[..., Any], tmp_path: Path) -> None:
    """A swept prompt is a variant's name by its beginning and a digest: short, one line, and the same in every run."""
    long = ["You are a careful judge.\\nThink about it for long. " * 20, "You are a careful judge of everything else."]
    more = f"[sweep]\nsystem = {json.dumps(long)}\ntemperature = [0.5]\n".replace("\\\\n", "\\n")
    process = call("run", "job.toml", "-o", "out", more=more)
    assert process.returncode == 0, process.stderr
    names = {one["variant"] for one in results(tmp_path)}
    assert len(names) == 2
    for name in names:
        assert name.startswith("system=You are a careful ju…")
        assert name.endswith(",temperature=0.5")
        assert len(name) < 60
    assert "nothing to do" in call("run", "job.toml", "-o", "out", more=more).stderr


def test_the_place_that_is_told_is_there(call: Callable[..., Any], tmp_path: Path) -> None:
    """With `single_file = false` the last line names the folder of parts."""
    process = call("run", "job.toml", more='[output]\npath = "out"\nsingle_file = false\n')
    assert process.returncode == 0, process.stderr
    place = process.stdout.splitlines()[-1].rpartition(" → ")[2]
    assert place == "out/results/"
    assert list((tmp_path / place).glob("part-*.parquet"))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_an_export_follows_the_umask(call: Callable[..., Any], tmp_path: Path, umask: int) -> None:
    """A run directory is its owner's alone; what is exported from it is like any file that a program writes."""
    assert call("run", "job.toml", "-o", "out").returncode == 0
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert call("export", "out", name, umask=umask).returncode == 0
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "out/results.parquet").stat().st_mode) == 0o600


def test_a_run_of_somebody_else(call: Callable[..., Any], tmp_path: Path) -> None:
    """A run directory that may not be read is exit 2, named as that in one line."""
    packages = Path(typer.__file__).parent
    if os.geteuid() == 0 and not all(one.stat().st_mode & 0o005 == 0o005 for one in (packages, *packages.parents)):
        pytest.skip("the installed packages stand where another user can't read them")
    assert call("run", "job.toml", "-o", "out").returncode == 0
    tmp_path.chmod(0o755)
    nobody = {"user": 65534} if os.geteuid() == 0 else {}
    try:
        for closed in ("out", "out/run.json"):
            (tmp_path / "out").chmod(0o755)
            (tmp_path / closed).chmod(0o000)
            for args in (("status", "out"), ("summary", "out"), ("export", "out", "x.csv")):
                if closed == "out/run.json" and args[0] == "summary":
                    (tmp_path / "out/cost_summary.parquet").chmod(0o000)
                process = call(*args, **nobody)
                assert process.returncode == 2, process.stderr
                assert "cannot be read: Permission denied" in process.stderr
                assert len(process.stderr.splitlines()) == 1
    finally:
        (tmp_path / "out").chmod(0o700)


@pytest.mark.parametrize("flags", [("--limit", "0"), ("--limit", "0", "--fresh"), ("empty.jsonl",)], ids=" ".join)
def test_no_rows_do_no_harm(call: Callable[..., Any], endpoint: Any, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """An empty input is exit 0, said on stderr, and leaves the results of an earlier run as they are."""
    (tmp_path / "empty.jsonl").write_text("")
    source = ("job.toml", *flags)
    if flags[0] == "empty.jsonl":
        source = ("empty.jsonl", "--model", "m", "--base-url", endpoint.url)
    first = call("run", *source, "-o", "nothing")
    assert first.returncode == 0
    assert "the input has no rows: nothing is asked\n" in first.stderr
    assert pq.read_table(tmp_path / "nothing/results.parquet").num_rows == 0
    assert call("run", "job.toml", "-o", "out").returncode == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*.*")}
    again = call("run", *source, "-o", "out")
    assert again.returncode == 0
    assert "the input has no rows: nothing is asked; earlier results stay as they are" in again.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*.*")} == files
    assert len(results(tmp_path)) == 3


def test_a_trial_on_some_rows(call: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """`--where` and `--sample` ask some rows under their own numbers; the whole run after them asks only the others."""
    some = call("run", "job.toml", "-o", "out", "--where", "n >= 1", "--sample", "1", "--seed", "3")
    assert some.returncode == 0, some.stderr
    (row,) = results(tmp_path)
    assert row["row"] == row["n"]
    assert row["completion"] == str(row["n"] + 1)
    again = call("run", "job.toml", "-o", "out", "--where", "n >= 1", "--sample", "1", "--seed", "3")
    assert "nothing to do" in again.stderr
    before = endpoint.received
    assert call("run", "job.toml", "-o", "out").returncode == 0
    assert endpoint.received == before + 2
    assert [one["row"] for one in results(tmp_path)] == [0, 1, 2]
    none = call("run", "job.toml", "-o", "none", "--where", "n > 5")
    assert none.returncode == 0
    assert "no row of the input fits `where`: nothing is asked" in none.stderr
    assert call("plan", "job.toml", "--seed", "3").returncode == 2
    assert call("plan", "job.toml", "--where", "n >").returncode == 2


def test_failures_of_some_kinds_are_asked_again(
    call: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """`--retry-failed=KIND` asks those alone; the others stay failed, and their attempts stay in the books."""
    refusal = {"error": {"message": "not for me", "code": "content_filter"}}
    faults = [{"status": 400, "match": "What is 0"}, {"status": 400, "match": "What is 1", "body": refusal}]
    with serve(faults=parse_faults(json.dumps(faults))) as broken, serve() as healthy:
        args = ("run", "job.toml", "-o", "out", "--max-attempts", "2", "--base-url")
        assert call(*args, broken.url).returncode == 1
        first = results(tmp_path)
        assert [one["error_kind"] for one in first] == ["bad_request", "content_filter", None]
        again = call(*args, healthy.url, "--retry-failed=content_filter")
        assert "1 failed requests are asked again (content_filter)" in again.stderr
        assert again.returncode == 1
        assert healthy.received == 1
        second = results(tmp_path)
        assert [one["error_kind"] for one in second] == ["bad_request", None, None]
        assert [one["attempts"] for one in second] == [1, first[1]["attempts"] + 1, 1]
        none = call(*args, healthy.url, "--retry-failed=timeout,content_filter")
        assert (none.returncode, healthy.received) == (1, 1)
        wrong = call(*args, healthy.url, "--retry-failed=content_filtr")
        assert wrong.returncode == 2
        assert "did you mean `content_filter`?" in wrong.stderr
        assert call(*args, healthy.url, "--retry-failed").returncode == 0
        assert healthy.received == 2
