"""What a person perhaps meant, told before anything is sent: a prompt without columns, misplaced names, a run to go on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROWS = 3


@pytest.fixture
def call(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> Callable[..., Any]:
    """Run `batchrun run rows.jsonl ARGS…` over three rows with the columns `text` and `n`."""
    rows = [json.dumps({"text": f"What is {n} + 1?", "n": n}) for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "prompt.txt").write_text("Say {{ text }}\r\n\r\n", encoding="utf-8-sig")

    def calling(*args: object, model: str | None = "m", command: str = "run", **more: Any) -> Any:
        flags = () if model is None else ("--model", model)
        return batchrun(command, "rows.jsonl", "--base-url", endpoint.url, *flags, *args, cwd=tmp_path, **more)

    return calling


SAME: dict[str, tuple[str, str]] = {
    "a file's name": ("prompt.txt", "--prompt-file prompt.txt"),
    "a file that isn't there": ("prompts/label.md", "--prompt-file prompts/label.md"),
    "single braces": ("Label: {text}", "{{ text }}"),
    "a brace that a notebook ate": ("Label: { text }", "{{ text }}"),
    "no brace left": ("Label this review: ", "columns: text, n"),
    "a comment alone": ("{# text #}Label this", "columns: text, n"),
    "nothing but built-ins": ("{{ range(3) | join }}", "columns: text, n"),
}


@pytest.mark.parametrize("name", SAME)
def test_a_prompt_without_columns_is_refused(call: Callable[..., Any], endpoint: Any, name: str) -> None:
    """A prompt that would ask every row the same is exit 2 with what was perhaps meant, in every command; nothing is sent."""
    prompt, hint = SAME[name]
    before = endpoint.received
    for command in ("run", "plan", "check"):
        process = call("--prompt", prompt, command=command)
        assert process.returncode == 2, process.stdout
        assert f"all {ROWS} rows would ask the same" in process.stderr
        assert hint in process.stderr
        assert "--same-prompt" in process.stderr
        assert len(process.stderr.splitlines()) == 2
    assert endpoint.received == before


def test_the_same_prompt_can_be_meant(call: Callable[..., Any]) -> None:
    """`--same-prompt` allows it, a single row needs no leave, and a system prompt with a column is one with a column."""
    assert call("--prompt", "What is 4 + 1?", "--same-prompt").returncode == 0
    assert call("--prompt", "What is 4 + 1?", "--limit", 1, "-o", "one").returncode == 0
    assert call("--prompt", "What is 4 + 1?", "--system", "Of {{ n }}", "-o", "two").returncode == 0


def test_one_variant_without_columns_is_enough(
    batchrun: Callable[..., Any], call: Callable[..., Any], endpoint: Any, tmp_path: Path
) -> None:
    """Every variant's prompt is looked at."""
    (tmp_path / "job.toml").write_text(
        f"""[input]
path = "rows.jsonl"
[endpoint]
base_url = "{endpoint.url}"
model = "m"
[sweep]
user = ["What is {{{{ n }}}} + 1?", "What is n?"]
"""
    )
    process = batchrun("plan", "job.toml", cwd=tmp_path)
    assert process.returncode == 2
    assert "'What is n?' uses no column" in process.stderr


@pytest.mark.parametrize("flags", [("--prompt-file", "prompt.txt"), ("--prompt", "@prompt.txt")], ids=" ".join)
def test_a_prompt_from_a_file(call: Callable[..., Any], tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The file's text is the prompt, without BOM and the last line end; run.json keeps the text itself."""
    process = call(*flags, "-o", "out")
    assert process.returncode == 0, process.stderr
    job = json.loads((tmp_path / "out/run.json").read_text())["job"]
    assert job["prompt"]["user"] == "Say {{ text }}\n"


FILES: dict[str, tuple[tuple[str, ...], str]] = {
    "missing": (("--prompt-file", "none.txt"), "none.txt: cannot be read as a prompt: No such file or directory"),
    "missing, with @": (("--prompt", "@none.txt"), "a prompt that begins with @ is written @@…"),
    "system": (("--system", "@none.txt"), "none.txt: cannot be read as a prompt"),
    "a folder": (("--prompt-file", "."), "cannot be read as a prompt: Is a directory"),
    "nothing": (("--prompt", "@"), "prompt @: no prompt in it"),
    "empty": (("--prompt-file", "/dev/null"), "/dev/null: no prompt in it"),
    "both": (("--prompt", "{{ text }}", "--prompt-file", "prompt.txt"), "both prompt and prompt_file"),
    "binary": (("--prompt-file", "binary"), "binary: cannot be read as a prompt: not UTF-8"),
}


@pytest.mark.parametrize(("flags", "says"), FILES.values(), ids=FILES)
def test_a_prompt_file_that_is_none(
    call: Callable[..., Any], tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    """A file that can't be a prompt is exit 2, named."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    process = call(*flags)
    assert process.returncode == 2
    assert says in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_prompt_that_begins_with_an_at(call: Callable[..., Any], tmp_path: Path) -> None:
    """`@@` stands for an @."""
    assert call("--prompt", "@@you: {{ text }}", "-o", "out").returncode == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["job"]["prompt"]["user"] == "@you: {{ text }}"


MEANT: dict[str, tuple[tuple[str, ...], str]] = {
    "max-tokens": (("--max-tokens", "5"), "--max-tokens is a parameter of the request: write --param max_tokens=5"),
    "temperature": (("--temperature=0",), "write --param temperature=0"),
    "underscores": (("--top_p", "0.5"), "write --param top_p=0.5"),
    "JSON": (("--stop", '["a b"]'), "write --param 'stop=[\"a b\"]'"),
}


@pytest.mark.parametrize(("flags", "says"), MEANT.values(), ids=MEANT)
def test_a_request_parameter_as_a_flag(call: Callable[..., Any], flags: tuple[str, ...], says: str) -> None:
    """A parameter that is written as a flag is exit 2 with how it is written."""
    process = call("--prompt", "{{ text }}", *flags)
    assert process.returncode == 2
    assert process.stderr == f"batchrun: {says}\n" or says in process.stderr


def test_a_fault_of_the_job_is_not_the_rows(call: Callable[..., Any]) -> None:
    """A model that nobody named, or a column that no row has, is told as the job's fault; it does not count 3 rows as wrong."""
    for process in (call("--prompt", "{{ text }}", model=None), call("--prompt", "{{ txet }}")):
        assert process.returncode == 2
        assert f"all {ROWS} rows have this fault: it is the job's" in process.stderr
        assert "more rows" not in process.stderr
        assert "on_bad_row" not in process.stderr
    assert "the row's columns are: text, n" in process.stderr


SWEPT = {
    "temprature": "temperature",
    "max_token": "max_tokens",
    "modle": "model",
    "prompt": "user",
    "messsages": "messages",
    "reasoning_efort": "reasoning_effort",
}


@pytest.mark.parametrize(("key", "meant"), SWEPT.items(), ids=SWEPT)
def test_a_swept_key_that_is_nearly_known(
    batchrun: Callable[..., Any], call: Callable[..., Any], endpoint: Any, tmp_path: Path, key: str, meant: str
) -> None:
    """A misspelt key under [sweep] is exit 2 with the one that was meant; one unlike any is sent as it is."""
    head = f'[input]\npath = "rows.jsonl"\n[prompt]\nuser = "{{{{ text }}}}"\n[endpoint]\nbase_url = "{endpoint.url}"\n'
    for name, code in ((key, 2), ("my_own_knob", 0), ("top_k", 0), ("repetition_penalty", 0)):
        (tmp_path / "job.toml").write_text(f'{head}model = "m"\n[sweep]\n{name} = [1, 2]\n')
        process = batchrun("plan", "job.toml", cwd=tmp_path)
        assert process.returncode == code, process.stderr
        if code:
            assert f"sweep.{key}" in process.stderr
            assert f"did you mean `{meant}`?" in process.stderr


def test_a_key_that_is_not_set_is_told(call: Callable[..., Any], serve: Callable[..., Any]) -> None:
    """Where the endpoint wants a key and none was sent, the message says that its variable is not set."""
    with serve(api_key="sk-the-right-one-0123456789") as locked:
        for command in ("check", "run"):
            process = call("--prompt", "{{ text }}", "--base-url", locked.url, command=command)
            assert process.returncode == 3
            assert "OPENAI_API_KEY, which is not set" in process.stderr


def test_a_run_goes_on_from_its_directory(
    batchrun: Callable[..., Any], call: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """A stop prints `batchrun run DIR`, which goes on from any working directory with the job that the directory keeps."""
    with serve() as running:
        stopped = call("--prompt", "{{ text }}", "--base-url", "http://127.0.0.1:9/v1", "-o", "a run")
        assert stopped.returncode == 3
        assert "to go on: batchrun run 'a run'" in stopped.stderr
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for command, code in (("plan", 0), ("check", 0), ("run", 0)):
            process = batchrun(command, "../a run", "--base-url", running.url, cwd=elsewhere)
            assert process.returncode == code, process.stderr
        assert running.received == 1 + ROWS
        assert [one["status"] for one in pq.read_table(tmp_path / "a run/results.parquet").to_pylist()] == ["ok"] * ROWS
        again = batchrun("run", tmp_path / "a run", cwd=elsewhere)
        assert again.returncode == 0
        assert "nothing to do" in again.stderr
        assert list(elsewhere.iterdir()) == []


def test_a_run_with_headers_needs_its_job(
    call: Callable[..., Any], batchrun: Callable[..., Any], tmp_path: Path
) -> None:
    """What run.json does not keep, since it may be a key, is said and not sent as it stands."""
    assert call("--prompt", "{{ text }}", "-o", "out").returncode == 0
    manifest = json.loads((tmp_path / "out/run.json").read_text())
    manifest["job"]["endpoint"]["headers"] = {"X-Team": "…"}
    (tmp_path / "out/run.json").write_text(json.dumps(manifest))
    process = batchrun("run", "out", cwd=tmp_path)
    assert process.returncode == 2
    assert "X-Team" in process.stderr
