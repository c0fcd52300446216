"""Output that can't be shown does a run no harm: full, closed, broken, or in an encoding of 1963 (contract.md §3)."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROWS = 12

FULL, CLOSED, GONE = "/dev/full", None, "|"
BROKEN: dict[str, dict[str, Any]] = {
    "stderr is full": {"err": FULL},
    "stdout is full": {"out": FULL},
    "both are full": {"err": FULL, "out": FULL},
    "stderr is closed": {"err": CLOSED},
    "stdout is closed": {"out": CLOSED},
    "both are closed": {"err": CLOSED, "out": CLOSED},
    "the reader of stderr has died": {"err": GONE},
    "the reader of both has died": {"err": GONE, "out": GONE},
    "ASCII alone": {"env": {"PYTHONIOENCODING": "ascii"}},
    "Latin-1": {"env": {"PYTHONIOENCODING": "latin-1"}},
}
# the same of an interpreter that starts and ends with it
SHELL = {
    "all three are closed": 'exec "$@" <&- >&- 2>&-',
    "the reader has died": 'set -o pipefail; { sleep 0.2; "$@" 2>&1; } | true',
    "no locale, and full": 'LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 exec "$@" >/dev/full 2>/dev/full',
}


@pytest.fixture
def shell(command: Callable[..., Any], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `batchrun ARGS…` in bash, as a line that says where its output goes."""

    def call(line: str, *args: object) -> subprocess.CompletedProcess[str]:
        words, environ = command(*args)
        return subprocess.run(
            ["bash", "-c", line, "bash", *words], env=environ, cwd=tmp_path, text=True, capture_output=True, check=False
        )

    return call


def written(folder: Path, endpoint: Any, model: str = "modèle-中") -> tuple[str, ...]:
    """An input with a row that is refused once, so that there is something to say, and how it is run."""
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt": "What is {n} + 1? é 中"}}\n' for n in range(ROWS)))
    return ("run", "rows.jsonl", "--model", model, "--base-url", endpoint.url, "-o", "out")


def assert_whole(folder: Path) -> None:
    results = pq.read_table(folder / "out/results.parquet").to_pylist()
    assert [one["status"] for one in results] == ["ok"] * ROWS


@pytest.mark.parametrize("progress", ["log", "bar"])
@pytest.mark.parametrize("where", BROKEN.values(), ids=BROKEN)
def test_a_run_ends_as_if_its_output_were_seen(
    batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path, where: dict[str, Any], progress: str
) -> None:
    """Exit 0 and every answer kept, wherever the output goes, and nothing of it in a file of the run."""
    process = batchrun(*written(tmp_path, endpoint), "--progress", progress, cwd=tmp_path, **where)
    assert process.returncode == 0, process.stderr
    assert_whole(tmp_path)
    assert "Traceback" not in process.stderr
    assert batchrun("run", "rows.jsonl", "--no-such-flag", cwd=tmp_path, **where).returncode == 2
    assert batchrun("run", "none.jsonl", "--base-url", endpoint.url, cwd=tmp_path, **where).returncode == 2


@pytest.mark.parametrize("line", SHELL.values(), ids=SHELL)
def test_the_interpreter_ends_well_too(shell: Callable[..., Any], endpoint: Any, tmp_path: Path, line: str) -> None:
    """What is left in buffers at the end changes no code."""
    process = shell(line, *written(tmp_path, endpoint))
    assert process.returncode == 0, process.stderr
    assert_whole(tmp_path)


def test_ascii_is_readable(batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """Lines and arrows have plain stand-ins where the output's encoding has none; other text is escaped."""
    process = batchrun(*written(tmp_path, endpoint, model="中"), cwd=tmp_path, **BROKEN["ASCII alone"])
    assert process.returncode == 0
    assert "-> out/results.parquet" in process.stdout
    assert "-----" in process.stdout
    assert "\\u4e2d" in process.stdout


@pytest.mark.parametrize("args", [("summary", "out"), ("status", "out", "--json"), ("--help",)], ids=" ".join)
def test_a_table_that_is_lost_is_said(
    batchrun: Callable[..., Any], endpoint: Any, tmp_path: Path, args: tuple[str, ...]
) -> None:
    """A command that only shows something fails in a line where stdout is full, and ends quietly like `cat` where its
    reader has gone.
    """
    assert batchrun(*written(tmp_path, endpoint), cwd=tmp_path).returncode == 0
    full = batchrun(*args, cwd=tmp_path, out=FULL)
    assert (full.returncode, full.stderr) == (2, "batchrun: stdout cannot be written: No space left on device\n")
    gone = batchrun(*args, cwd=tmp_path, out=GONE)
    assert (gone.returncode, gone.stderr) == (141, "")


def test_debug_keeps_the_code(batchrun: Callable[..., Any], tmp_path: Path) -> None:
    """`--debug` adds a traceback and changes no exit code."""
    for debug in ((), ("--debug",)):
        process = batchrun("run", "missing.jsonl", "--base-url", "http://127.0.0.1:9", *debug, cwd=tmp_path)
        assert process.returncode == 2
        assert ("Traceback" in process.stderr) == bool(debug)
        assert "missing.jsonl: no such file" in process.stderr


def test_what_is_typed_in_is_utf8_in_any_locale(shell: Callable[..., Any], endpoint: Any, tmp_path: Path) -> None:
    """Where the locale isn't UTF-8 the bytes are taken as they were typed; what is no UTF-8 is exit 2, named."""
    no_locale = 'LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 exec "$@"'
    assert shell(no_locale, *written(tmp_path, endpoint)).returncode == 0
    assert set(pq.read_table(tmp_path / "out/results.parquet")["model"].to_pylist()) == {"modèle-中"}
    wrong = shell("exec \"$@\" --prompt $'caf\\xe9'", *written(tmp_path, endpoint))
    assert (wrong.returncode, wrong.stderr) == (2, "batchrun: --prompt: not UTF-8 text\n")
