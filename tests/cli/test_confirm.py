"""What is asked before much is asked again, and whose results a run directory holds (contract.md §7.2)."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from terminals import Terminal, until

JOB = '[input]\npath = "rows.jsonl"\n[prompt]\nuser = "{prompt}"\n[endpoint]\nmodel = "m"\n[output]\npath = "out"\n'


def write(path: Path, numbers: range) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in numbers))


class Folder:
    """A folder with rows and a job, and calls in it against one endpoint."""

    def __init__(self, path: Path, batchrun: Callable[..., Any], endpoint: Any) -> None:
        self.path = path
        self._batchrun = batchrun
        self._endpoint = endpoint
        write(path / "rows.jsonl", range(20))
        self.prompt("What is {{ n }} + 1?")

    def prompt(self, text: str, more: str = "") -> None:
        (self.path / "job.toml").write_text(JOB.replace("{prompt}", text) + more)

    def args(self, source: str, *flags: str) -> tuple[str, ...]:
        return ("run", source, "--base-url", self._endpoint.url, *flags)

    def run(self, source: str, *flags: str, code: int = 0) -> int:
        """The number of requests that were received for one call."""
        before = self._endpoint.received
        process = self._batchrun(*self.args(source, *flags), cwd=self.path)
        self.said = process.stderr
        assert process.returncode == code, process.stderr
        return int(self._endpoint.received - before)


@pytest.fixture
def folder(tmp_path: Path, batchrun: Callable[..., Any], endpoint: Any) -> Folder:
    return Folder(tmp_path, batchrun, endpoint)


FLAGS = ("--model", "m", "--prompt", "What is {{ n }} + 1?")


def test_two_inputs_of_one_name_do_not_share_a_directory(folder: Folder) -> None:
    """Both would be in runs/rows: exit 2 that names the other input and the way on, and the first one's results stay. Under
    another name, or with --fresh, the second one runs."""
    write(folder.path / "a" / "rows.jsonl", range(20))
    write(folder.path / "b" / "rows.jsonl", range(50, 70))
    assert folder.run("a/rows.jsonl", *FLAGS) == 20
    results = (folder.path / "runs" / "rows" / "results.parquet").read_bytes()
    assert folder.run("b/rows.jsonl", *FLAGS, code=2) == 0
    assert "runs/rows holds the results of another input, " in folder.said
    assert "a/rows.jsonl: 0 of its 20 answers" in folder.said
    assert "-o" in folder.said
    assert (folder.path / "runs" / "rows" / "results.parquet").read_bytes() == results
    assert folder.run("a/rows.jsonl", *FLAGS) == 0
    assert folder.run("b/rows.jsonl", *FLAGS, "-o", "other") == 20
    assert folder.run("b/rows.jsonl", *FLAGS, "--fresh") == 20


def test_an_input_that_moved_goes_on(folder: Folder) -> None:
    """The same rows under another name are the same input, also with rows appended, and after a change of the prompt."""
    assert folder.run("rows.jsonl", *FLAGS, "-o", "out") == 20
    (folder.path / "rows.jsonl").rename(folder.path / "moved.jsonl")
    assert folder.run("moved.jsonl", *FLAGS, "-o", "out") == 0
    write(folder.path / "more.jsonl", range(24))
    assert folder.run("more.jsonl", *FLAGS, "-o", "out") == 4
    shutil.move(folder.path / "more.jsonl", folder.path / "again.jsonl")
    prompt = ("--model", "m", "--prompt", "What is {{ n }} + 2?")
    assert folder.run("again.jsonl", *prompt, "-o", "out", "--yes") == 24


def test_an_edited_job_says_what_changed_and_goes_on(folder: Folder) -> None:
    """Without a terminal an edited job file is answer enough: what has changed is said, in words and numbers, also with -q."""
    folder.prompt("What is {{ n }} + 1?", "[params]\ntemperature = 0.2\n[prices.m]\ninput = 1\noutput = 1\n")
    assert folder.run("job.toml") == 20
    folder.prompt("Tell me, what is {{ n }} + 1?", "[params]\ntemperature = 0.5\n[prices.m]\ninput = 1\noutput = 1\n")
    assert folder.run("job.toml") == 20
    assert (
        "changed since the last call: prompt.user, 3 words; params.temperature 0.2 → 0.5; of 20 answers 20 are to be asked "
        "again, for about $0.000" in folder.said
    )
    folder.prompt("What then is {{ n }} + 1?")
    assert folder.run("job.toml", "-q") == 20
    assert "changed since the last call: prompt.user, " in folder.said


def test_another_flag_needs_a_word_where_nobody_can_be_asked(folder: Folder) -> None:
    """A flag that is given otherwise, or no more, asks nothing again without --yes: exit 2, and the results stay."""
    flags = ("-o", "out", "--prompt", "What is {{ n }} + 1?")
    assert folder.run("rows.jsonl", *flags, "--model", "m") == 20
    results = (folder.path / "out" / "results.parquet").read_bytes()
    assert folder.run("rows.jsonl", *flags, "--model", "other", code=2) == 0
    assert "model m → other; of 20 answers 20 are to be asked again" in folder.said
    assert "--model: not as in the last call; nothing was sent" in folder.said
    assert "--yes" in folder.said
    assert folder.run("job.toml", "--model", "m", "--system", "Be brief.", code=2) == 0
    assert folder.run("rows.jsonl", *flags, "--model", "m", "--param", "temperature=1", "-q", code=2) == 0
    assert "params.temperature 1 is new" in folder.said
    assert (folder.path / "out" / "results.parquet").read_bytes() == results
    assert folder.run("rows.jsonl", *flags, "--model", "other", "-y") == 20
    assert folder.run("job.toml", "--model", "x", "-o", "third") == 20
    assert folder.run("third") == 0
    assert folder.run("job.toml", "-o", "third", code=2) == 0, "the flag that was given before is missing"


def test_an_edited_template_file_goes_on(folder: Folder) -> None:
    """The flag names the same file as before: what has changed is the file, which somebody has edited."""
    (folder.path / "label.txt").write_text("What is {{ n }} + 1?")
    flags = ("-o", "out", "--model", "m", "--prompt", "@label.txt")
    assert folder.run("rows.jsonl", *flags) == 20
    (folder.path / "label.txt").write_text("So what is {{ n }} + 1?")
    assert folder.run("rows.jsonl", *flags) == 20
    assert "prompt.user, 2 words" in folder.said


def test_what_asks_little_again_is_not_asked_about(folder: Folder) -> None:
    """Edited, added and reordered rows, other selections of them and further samples go on as ever."""
    flags = ("-o", "out", "--model", "m", "--prompt", "What is {{ n }} + 1?")
    assert folder.run("rows.jsonl", *flags, "--sample", "10") == 10
    assert folder.run("rows.jsonl", *flags, "--sample", "5", "--seed", "3") <= 5
    assert folder.run("rows.jsonl", *flags) > 0
    write(folder.path / "rows.jsonl", range(2, 24))
    assert folder.run("rows.jsonl", *flags) == 4
    assert folder.run("rows.jsonl", *flags, "--samples", "2") == 22


@pytest.fixture
def asked(folder: Folder, on_terminal: Callable[..., Terminal]) -> Iterator[Terminal]:
    """A call in a terminal that waits for an answer."""
    assert folder.run("rows.jsonl", *FLAGS, "-o", "out") == 20
    line = folder.args("rows.jsonl", *FLAGS, "-o", "out", "--param", "temperature=1")
    shown = on_terminal(*line, cwd=folder.path)
    until(lambda: "ask them again? [y/N]" in shown.seen(), "nothing is asked")
    assert "params.temperature 1 is new; of 20 answers 20 are to be asked again" in shown.seen()
    yield shown
    shown.close()


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2), ("\x03", 130)])
def test_a_person_is_asked(folder: Folder, endpoint: Any, asked: Terminal, typed: str, code: int) -> None:
    """In a terminal: yes goes on, anything else is exit 2 with nothing sent, and Ctrl-C ends the waiting."""
    before = endpoint.received
    asked.type(typed)
    until(lambda: asked.seen() != "" and asked.process.poll() is not None, "the run does not end")
    assert asked.process.returncode == code, asked.seen()
    assert endpoint.received - before == (20 if code == 0 else 0)
    if code:
        assert folder.run("rows.jsonl", *FLAGS, "-o", "out") == 0
