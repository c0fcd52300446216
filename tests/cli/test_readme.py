"""README: every command in it runs, and what it shows has the shape of what the program prints; the list of keys is whole."""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from forks import Call
from reference import keys

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
WITH_OUTPUT = [text for kind, text in BLOCKS if not kind and text.startswith("$ ")]
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
INSTALLS = ("pip install", "uv run", "export ")


class Shown(NamedTuple):
    """A command of README and the lines that it shows."""

    command: str
    lines: list[str]


def shown(block: str) -> Iterator[Shown]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip().split("\n")
        yield Shown(command.partition(" #")[0].strip(), [one for one in lines if "%|" not in one])


def shape(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, times, widths."""
    found = []
    for line in text.splitlines():
        line = re.sub(r"\d+(?:[.,:/ -]*\d+)*", "N", line)
        found.append(re.sub(r"─+", "─", re.sub(r" +", " ", line)).strip())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a clone has, and a file of one's own."""
    for name in ("jobs", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "reviews.jsonl").write_bytes((ROOT / "samples/reviews.jsonl").read_bytes())
    return tmp_path


def test_the_list_of_keys_is_whole() -> None:
    """Each key of a job stands in the table with what it takes and its default, in order, and with a meaning."""
    rows = re.findall(r"^\| `([^`|]+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", README, re.MULTILINE)
    listed = [row[:3] for row in rows if "." in row[0] or row[0] in ("samples", "reuse")]
    assert listed == [tuple(key) for key in keys()]
    assert all(meaning.strip() for *_key, meaning in rows)


def test_what_is_shown_of_runs_is_what_they_print(batchrun: Callable[..., Any], folder: Path) -> None:
    """The commands of README that end by themselves print lines of that shape, in the order in which they stand there."""
    told = [one for block in WITH_OUTPUT for one in shown(block) if "overnight" not in one.command]
    assert len(told) >= 3
    for one in told:
        process = batchrun(*shlex.split(one.command)[1:], cwd=folder)
        assert process.returncode == 0, process.stderr
        notes = [line for line in process.stderr.splitlines() if line.startswith("batchrun:")]
        assert shape("\n".join([*notes, process.stdout])) == shape("\n".join(one.lines)), one.command


def test_the_commands_for_one_s_own_file_run(
    batchrun: Callable[..., Any], serve: Callable[..., Any], folder: Path
) -> None:
    """Every command of the shell blocks ends well, in the order in which they stand there, with an endpoint of ours in place
    of the one that is named.
    """
    lines = [line for block in SHELL for line in block.splitlines() if line.startswith("batchrun ")]
    assert len(lines) >= 8
    with serve() as endpoint:
        for line in lines:
            words = shlex.split(line.replace("https://api.openai.com/v1", endpoint.url), comments=True)
            process = batchrun(*words[1:], cwd=folder, env={"OPENAI_API_KEY": "a-key-of-nobody"})
            assert process.returncode == 0, (line, process.stderr)


def test_all_other_lines_of_the_shell_are_known() -> None:
    """What the shell blocks hold besides is how batchrun is installed, a key is set, and recipes' own programs."""
    rest = [line for block in SHELL for line in block.splitlines() if not line.startswith(("batchrun ", "#", " "))]
    assert all(line.startswith((*INSTALLS, *RECIPES)) for line in rest if line), rest


RECIPES = ("tmux ", "docker ", "systemctl ", "crontab ")


@contextmanager
def overnight(begin: Callable[..., Call], endpoint: Any, folder: Path) -> Iterator[Call]:
    """jobs/overnight.toml under way, on an input that lasts."""
    prompts = (ROOT / "samples/prompts.jsonl").read_bytes()
    (folder / "long.jsonl").write_bytes(prompts * (1 + 20000 // prompts.count(b"\n")))
    job = (ROOT / "jobs/overnight.toml").read_text().replace("samples/prompts.jsonl", "long.jsonl")
    (folder / "overnight.toml").write_text(job)
    process = begin("run", "overnight.toml", "--base-url", endpoint.url, cwd=folder)
    try:
        while endpoint.received < 700:
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)


def test_what_is_shown_of_a_night_is_what_is_printed(
    batchrun: Callable[..., Any], begin: Callable[..., Call], serve: Callable[..., Any], folder: Path
) -> None:
    """A run under way is looked at, steered and stopped with the commands of README, and its log tells of it, in lines of that
    shape.
    """
    told = [one for block in WITH_OUTPUT for one in shown(block) if "overnight" in one.command]
    assert [one.command.split()[1] for one in told] == ["status", "set", "pause", "resume", "stop", "log"]
    with serve(first_token_s=0.1) as endpoint, overnight(begin, endpoint, folder) as process:
        for one in told:
            if one.command.startswith("batchrun log"):
                process.wait(timeout=30)
            done = batchrun(*shlex.split(one.command)[1:], cwd=folder)
            assert done.returncode == 0, done.stderr
            assert shape(done.stdout) == shape("\n".join(one.lines)), one.command
