"""What a command loads before it does anything: whatever takes long to load is loaded by those alone who need it.

Loading is what a short command takes its time for. Held by names, never by a clock.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PARQUET = {"pyarrow", "numpy", "pandas"}
HTTP = {"httpx", "aiohappyeyeballs", "truststore", "certifi", "http.client"}
PRICES = {"genai_prices"}
SERVER = {"starlette", "uvicorn", "httptools"}
BUCKET = {"tenacity"}
OTHER = {"pandas", "polars", "pyarrow.dataset", "tqdm", "prometheus_client", "opentelemetry"}
ALWAYS_LATE = HTTP | PRICES | SERVER | BUCKET | OTHER

CALL = """
import sys
import batchrun.cli
for line in sys.argv[1:]:
    sys.argv = ["batchrun", *line.split()]
    try:
        batchrun.cli.main()
    except SystemExit as ended:
        assert ended.code in (0, None), ended.code
print("\\nloaded:", *sys.modules)
"""


@pytest.fixture(scope="module")
def complete(batchrun: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run of a job with a template and prices of its own."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "rows.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n')
    (folder / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[prompt]\nuser = "Label: {{ text }}"\n'
        '[endpoint]\nbase_url = "embedded:"\nmodel = "m"\n[prices.m]\ninput = 1\noutput = 1\n[output]\npath = "out"\n'
    )
    process = batchrun("run", "job.toml", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


def loaded(folder: Path, command: Callable[..., tuple[list[str], dict[str, str]]], *lines: str) -> set[str]:
    """The modules that calls, one after another in a new process, have loaded at their end."""
    _line, environ = command()
    line = [sys.executable, "-c", CALL, *lines]
    said = subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout
    return set(said.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    ("lines", "late"),
    [
        (
            ("--help", "status out", "ls .", "log out"),
            ALWAYS_LATE | PARQUET | {"jinja2", "asyncio", "anyio", "sqlite3"},
        ),
        (("summary out", "plan job.toml", "run job.toml"), ALWAYS_LATE | {"pyarrow.compute"}),
        (("export out out.csv", "export out out.parquet", "failures out"), ALWAYS_LATE),
    ],
    ids=["that show", "that ask", "that write tables"],
)
def test_a_command_loads_only_what_it_needs(
    complete: Path, command: Callable[..., tuple[list[str], dict[str, str]]], lines: tuple[str, ...], late: set[str]
) -> None:
    """No HTTP where nothing is sent, no Parquet where nothing is read, no price list where the job has the prices, no bar
    where there is no terminal; pandas and pyarrow's datasets, which take longer than all the rest, never."""
    found = loaded(complete, command, *lines) & late
    assert not found
