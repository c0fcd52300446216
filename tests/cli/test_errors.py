"""What is wrong is said in a line or two: what, where and the remedy. Nothing is sent (contract.md §2, §3)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchrun.cli import main

COMMANDS = ("run", "plan", "check", "status", "summary", "report", "export", "serve")
JOB = """[input]
path = "rows.jsonl"
[prompt]
user = "{{ text }}"
[endpoint]
base_url = "URL"
model = "m"
"""


class Case(NamedTuple):
    """A call, and the words that its message must have; `URL` stands for the endpoint's. `job` is written to job.toml."""

    args: tuple[str, ...]
    words: tuple[str, ...]
    job: str = JOB
    rows: bytes = b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'


FLAGS = ("--base-url", "URL", "--model", "m")
CASES = {
    "malformed JSON": Case(("job.toml",), ("rows.jsonl:3: not valid JSON",), rows=b'{"text": "a"}\n\n{"text": \n'),
    "a row that is no object": Case(("job.toml",), ("rows.jsonl:1: a row must be a JSON object",), rows=b"[1, 2]\n"),
    "a template column that a row lacks": Case(
        ("job.toml",), ("rows.jsonl:2: ", "'text'", "body"), rows=b'{"text": "a"}\n{"body": "b"}\n'
    ),
    "a row without any prompt": Case(("rows.jsonl", *FLAGS), ("rows.jsonl:1: no `prompt`", "--prompt")),
    "a broken template": Case(("rows.jsonl", *FLAGS, "--prompt", "{{ text"), ("prompt.user, line 1",)),
    "an unknown table": Case(
        ("job.toml",), ("job.toml:8: ", "unknown key `limit`", "did you mean `limits`?"), job=JOB + "[limit]\nrpm = 1\n"
    ),
    "an unknown key": Case(
        ("job.toml",),
        ("job.toml:9: ", "unknown key `limits.concurency`", "did you mean `concurrency`?"),
        job=JOB + "[limits]\nconcurency = 4\n",
    ),
    "a wrong type": Case(
        ("job.toml",), ("job.toml:9: ", "limits.concurrency"), job=JOB + "[limits]\nconcurrency = [4]\n"
    ),
    "a value out of range": Case(("job.toml", "--samples", "0"), ("samples = 0", "at least 1")),
    "no TOML": Case(("job.toml",), ("job.toml:8: ", "not valid TOML"), job=JOB + "[limits\n"),
    "a key variable that is not set": Case(
        ("job.toml", "--api-key-env", "NOWHERE_KEY"), ("NOWHERE_KEY", "not set", "export NOWHERE_KEY=")
    ),
    "a file in the output's way": Case(("job.toml", "-o", "rows.jsonl/out"), ("rows.jsonl/out", "-o")),
    "no input there": Case(("missing.jsonl", *FLAGS), ("missing.jsonl",)),
    "an input of an unknown format": Case(("rows.xlsx", *FLAGS), ("rows.xlsx", ".jsonl", ".parquet")),
    "no base_url": Case(("rows.jsonl", "--model", "m", "--prompt", "{{ text }}"), ("--base-url",)),
    "no model": Case(("rows.jsonl", "--base-url", "URL", "--prompt", "{{ text }}"), ("no model", "--model")),
    "a param that is no JSON": Case(("job.toml", "--param", "stop=[1"), ("stop", "not valid JSON")),
    "not yet: budget": Case(("job.toml", "--budget", "5"), ("budget_usd", "not yet supported")),
    "not yet: score": Case(
        ("job.toml",), ("score", "not yet supported"), job=JOB + '[[score]]\nname = "a"\nkind = "exact"\n'
    ),
    "not yet: engine": Case(("job.toml", "--engine", "ray"), ("ray", "not yet supported")),
}


def assert_short(process: Any) -> None:
    """An error is exit 2, nothing on stdout, and one to three lines on stderr, none of them a traceback."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    assert "Traceback" not in process.stderr
    assert 1 <= len(process.stderr.splitlines()) <= 3, process.stderr


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_before_anything_is_sent(
    batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path, name: str
) -> None:
    """Exit 2 with a short message that says what, where and the remedy; the endpoint hears nothing, no result appears."""
    case = CASES[name]
    (tmp_path / "job.toml").write_text(case.job.replace("URL", endpoint.url))
    (tmp_path / "rows.jsonl").write_bytes(case.rows)
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    before = endpoint.received
    process = batchrun("run", *(arg.replace("URL", endpoint.url) for arg in case.args), cwd=tmp_path)
    assert_short(process)
    for word in case.words:
        assert word in process.stderr
    assert endpoint.received == before
    assert not list(tmp_path.rglob("*.parquet"))


def test_many_bad_rows_are_counted_not_listed(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """Of many bad rows the first is named and the rest counted: the message stays as short as any other."""
    (tmp_path / "rows.jsonl").write_text('{"text": 1}\n' + "{\n" * 100)
    process = batchrun("run", "rows.jsonl", *_flags(endpoint), "--prompt", "{{ text }}", cwd=tmp_path)
    assert_short(process)
    assert "rows.jsonl:2: not valid JSON" in process.stderr
    assert "99 more" in process.stderr
    assert "on_bad_row" in process.stderr


def test_bad_rows_can_be_results(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """With `on_bad_row = "fail"` they are failed results that name file:line; the others are asked, and the exit is 1."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{\n{"other": "c"}\n')
    job = JOB.replace("URL", endpoint.url).replace("[prompt]", 'on_bad_row = "fail"\n[prompt]')
    (tmp_path / "job.toml").write_text(job)
    before = endpoint.received
    process = batchrun("run", "job.toml", "-o", "out", cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    assert endpoint.received == before + 1
    assert batchrun("export", "out", "out.jsonl", cwd=tmp_path).returncode == 0
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["status"] for one in results] == ["ok", "failed", "failed"]
    assert [one["error_kind"] for one in results] == [None, "bad_row", "bad_row"]
    assert "rows.jsonl:2" in results[1]["error_message"]
    assert "rows.jsonl:3" in results[2]["error_message"]


@pytest.mark.parametrize("name", ["status", "summary", "export"])
def test_a_folder_without_a_run(batchrun: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """Commands that read a run directory say that there is none, and make none."""
    process = batchrun(name, "nowhere", *(["x.csv"] if name == "export" else []), cwd=tmp_path)
    assert_short(process)
    assert "nowhere" in process.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["status", "summary", "failures", "log", "pause"])
def test_a_file_is_no_run_directory(batchrun: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """A file where a run directory belongs is named as what it lacks, not as the system's error."""
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n")
    process = batchrun(name, "rows.jsonl", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr == "batchrun: rows.jsonl: a file, and no run directory; give the directory of a run\n"


def test_a_key_never_shows(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """The key is sent and stands in no file of the run and in no output."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    secret = "sk-do-not-print-me-0123456789"
    process = batchrun(
        *("run", "rows.jsonl", *_flags(endpoint), "-o", "out", "--api-key-env", "MY_KEY"),
        env={"MY_KEY": secret},
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert secret not in process.stdout + process.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(batchrun: Callable[..., Any], name: str) -> None:
    """`--help` is exit 0, on stdout, with examples and the exit codes, one a line."""
    process = batchrun(name, "--help")
    assert process.returncode == 0
    assert process.stderr == ""
    assert "\n  Exit codes:\n    0    every request is ok\n" in process.stdout
    assert f"\n  Examples:\n    batchrun {name}" in process.stdout


def test_the_program_has_help_and_a_version(batchrun: Callable[..., Any]) -> None:
    """`batchrun --help` lists every command and the exit codes; `--version` is one line."""
    process = batchrun("--help")
    assert process.returncode == 0
    assert "Exit codes" in process.stdout
    assert all(f"  {command} " in process.stdout for command in COMMANDS)
    process = batchrun("--version")
    assert process.returncode == 0
    assert process.stdout.startswith("batchrun ")


def _flags(endpoint: Any) -> tuple[str, ...]:
    return tuple(flag.replace("URL", endpoint.url) for flag in FLAGS)


def test_a_fault_leaves_no_folder_behind(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """Nothing was begun, so nothing stays: the next run finds a clean place."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": ')
    process = batchrun("run", str(tmp_path / "rows.jsonl"), *_flags(endpoint), "-o", str(tmp_path / "out"))
    assert process.returncode == 2
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_program_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 70, and what went wrong rather than the group of tasks that it went wrong in; no traceback."""

    def broken(*_args: object, **_more: object) -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("again", [ZeroDivisionError("oops")])])

    monkeypatch.setattr("batchrun.cli.app.app", broken)
    monkeypatch.setattr("sys.argv", ["batchrun", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 70
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "batchrun: ZeroDivisionError: oops"
    assert len(said) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_flags(batchrun: Callable[..., Any], shell: str) -> None:
    """`--show-completion SHELL` gives the script, and what it calls answers with commands and flags."""
    script = batchrun("--show-completion", shell)
    assert script.returncode == 0, script.stderr
    assert "_BATCHRUN_COMPLETE" in script.stdout
    for words, expected in (("batchrun st", "status"), ("batchrun run --conc", "--concurrency")):
        env = {
            "_BATCHRUN_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        assert expected in batchrun(env=env).stdout
