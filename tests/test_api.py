"""The Python face: what README shows, run as it stands; names that an editor sees (contract.md §8)."""

import inspect
import pydoc
import re
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.settings import TABLE

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
FACES = ("run", "arun", "plan", "aplan", "check", "acheck")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the project's jobs and samples, for runs that write into it."""
    for name in ("jobs", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_s_python_runs(folder: Path) -> None:
    """Every Python block of README runs, one after the other, under the install line it stands below."""
    assert BLOCKS
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert names["outlook"].requests == 240
    assert names["trial"].answer.completion
    assert (names["summary"].requests, names["summary"].failed) == (5, 0)
    assert (folder / "runs/quickstart/results.parquet").exists()
    assert (folder / "runs/prompts/results.parquet").exists()


def test_the_face_is_listed() -> None:
    """`dir(batchrun)` lists what the package gives, and all of it is there."""
    assert set(FACES) <= set(dir(batchrun))
    for name in dir(batchrun):
        assert getattr(batchrun, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        batchrun.runn  # noqa: B018


@pytest.mark.parametrize("name", FACES)
def test_help_shows_every_keyword(name: str) -> None:
    """A signature has every setting as a keyword of its own, and `help()` says what it is."""
    face = getattr(batchrun, name)
    assert set(TABLE) <= set(inspect.signature(face).parameters)
    shown = pydoc.plain(pydoc.render_doc(face))
    assert "concurrency" in shown
    assert "Requests in flight" in shown


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"concurency": 3}, "unknown setting `concurency`; did you mean `concurrency`"),
    "unlike any": ({"zzz": 3}, "unknown setting `zzz`; known: output, base_url"),
    "wrong type": ({"rpm": "fast"}, "limits.requests_per_minute: expected `float"),
    "no JSON": ({"params": {"stop": object()}}, "a value that no job file could hold"),
    "out of range": ({"samples": 0}, "samples = 0: must be at least 1"),
}


@pytest.mark.parametrize(("settings", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_keyword_is_a_job_error(folder: Path, settings: dict[str, Any], says: str) -> None:
    """A keyword that is unknown or has a wrong value is refused by name, before anything is read or sent."""
    with pytest.raises(batchrun.JobError) as caught:
        batchrun.plan(Path("jobs/quickstart.toml"), **settings)
    assert says in str(caught.value)
