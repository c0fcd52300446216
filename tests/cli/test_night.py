"""The README's recipes for a run that is left alone: each is read by what it is for, as far as that is on this machine."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrun.embedded import Fault
from batchrun.job import Timeouts

NIGHT = (Path(__file__).parents[2] / "README.md").read_text().partition("\n### Left alone\n")[2].partition("\n## ")[0]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", NIGHT, re.MULTILINE | re.DOTALL)


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(blocks("ini")[0])
    return found


def test_a_service_manager_waits_for_the_drain_and_does_not_start_what_has_ended() -> None:
    """More time to stop than the default drain; a start again after all exit codes but those that are an end."""
    service = unit()["Service"]
    assert float(service["TimeoutStopSec"]) > Timeouts().drain
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "1 2")
    assert int(service["RestartSec"]) >= 60, "a wrong key is tried at every start"


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of it, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    text = blocks("ini")[0].replace("%h/.local/bin/batchrun", sys.executable).replace("%h", str(tmp_path))
    (tmp_path / "night.service").write_text(text)
    line = ["systemd-analyze", "--man=no", "--generators=no", "verify", str(tmp_path / "night.service")]
    found = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    if "night.service" not in found.stderr and found.returncode:
        pytest.skip(f"systemd-analyze cannot work here: {found.stderr.strip()[-200:]}")
    assert (found.returncode, "night.service" in found.stderr) == (0, False), found.stderr


def test_the_container_has_time_to_drain() -> None:
    """`--stop-timeout` is more than the default drain, an end of starting again is given, and no shell stands between."""
    words = shlex.split(blocks("sh")[0])
    assert float(words[words.index("--stop-timeout") + 1]) > Timeouts().drain
    assert re.fullmatch(r"on-failure:\d+", words[words.index("--restart") + 1])
    assert words[words.index("my-image") + 1] == "batchrun"


@pytest.mark.parametrize("block", blocks("sh") + [re.sub(r"^(\S+ ){5}", "", one) for one in blocks("cron")])
def test_the_shell_can_read_it(block: str) -> None:
    """Every line is one that `sh` understands."""
    subprocess.run(["sh", "-n"], input=block, text=True, check=True)


def test_the_line_for_cron_does_its_work(
    tmp_path: Path, endpoint: Any, command: Callable[..., tuple[list[str], dict[str, str]]]
) -> None:
    """In the home directory, with the key from its file and with nothing to see: twice, and the second time nothing is asked."""
    (line,) = blocks("cron")
    when, called = re.fullmatch(r"((?:\S+ ){5})(.*)\n", line).groups()  # type: ignore[union-attr]
    assert re.fullmatch(r"([\d*]+ ){5}", when)
    assert "%" not in called, "cron would end the line there"
    python, environ = command()
    home, program = tmp_path / "reviews", tmp_path / ".local" / "bin" / "batchrun"
    home.mkdir()
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(python)} "$@"\n')
    program.chmod(0o755)
    (home / "key.env").write_text("NIGHT_KEY=secret-of-the-night\n")
    (home / "rows.jsonl").write_text('{"prompt": "What is 1 + 1?"}\n')
    (home / "job.toml").write_text(
        f'[input]\npath = "rows.jsonl"\n[endpoint]\nbase_url = "{endpoint.url}"\nmodel = "m"\napi_key_env = "NIGHT_KEY"\n'
    )
    before = endpoint.received
    for _ in range(2):
        subprocess.run(["sh", "-c", called], env={**environ, "HOME": str(tmp_path)}, check=True, timeout=60)
    assert endpoint.received == before + 1
    assert (home / "night.log").read_text() == ""
    assert os.path.exists(home / "runs" / "job" / "results.parquet")  # noqa: PTH110


def test_a_finished_run_with_failures_is_finished(start: Callable[..., Any]) -> None:
    """Called again it asks nothing, says once that its failures stay and what asks them again, and exits as before."""
    job = start(faults=(Fault(status=400, match="What is 3 +"),))
    job.rows(range(6))
    assert job.run(code=1) == 6
    for _ in range(2):
        assert job.run(code=1) == 0
        assert job.process.stderr.count("1 failed requests stay so, --retry-failed asks them again") == 1
