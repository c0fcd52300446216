"""The number of a run directory's format: older ones are gone on with, newer ones refused and left as they are."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import batchrun
from batchrun.embedded import Behaviour, Fault
from batchrun.errors import JobError, LedgerError
from batchrun.ledger.durable import with_checksum, without_checksum
from batchrun.ledger.formats import FORMAT
from batchrun.ledger.journal import rewrite
from batchrun.ledger.lines import opened_line
from batchrun.ledger.replay import replay
from served import Endpoints

FIRST = Path(__file__).with_name("first_format")
"""Six rows in three shards, killed when the fourth had been sent, as the version without a number left it."""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    folder = tmp_path / "first"
    shutil.copytree(FIRST, folder)
    return folder


def settings(folder: Path, url: str) -> dict[str, Any]:
    return {"output": str(folder / "run"), "base_url": url, "model": "m", "concurrency": 1}


def test_a_directory_of_the_first_format_goes_on(first: Path, embedded: Endpoints) -> None:
    """What it sealed and journalled is kept, only the rest is asked, and from then on it has the present number."""
    with embedded.serving(Behaviour(faults=(Fault(status=400, match="What is [012] "),))) as url:
        outcome = batchrun.run(first / "rows.jsonl", **settings(first, url))
    assert (outcome.ok, outcome.failed, outcome.asked) == (6, 0, 3)
    table = pq.read_table(first / "run" / "results.parquet")
    assert table["completion"].to_pylist() == [str(n + 1) for n in range(6)]
    assert table["unconfirmed_attempts"].to_pylist() == [0, 0, 0, 1, 0, 0], "the attempt that was cut off is confessed"
    for name in ("run.json", ".state/inventory.json"):
        assert f'"format":{FORMAT}' in (first / "run" / name).read_text().replace(" ", ""), name


def newer_manifest(run: Path) -> None:
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace("{\n", f'{{\n  "format": {FORMAT + 1}, "state_of": 7,\n', 1))


def newer_inventory(run: Path) -> None:
    (run / ".state" / "inventory.json").write_bytes(with_checksum(b'{"format":%d,"files":"elsewhere"}' % (FORMAT + 1)))


@pytest.mark.parametrize("made_newer", [newer_manifest, newer_inventory])
def test_a_newer_directory_is_refused_in_one_line(
    first: Path, embedded: Endpoints, made_newer: Callable[[Path], None]
) -> None:
    """Nothing is sent, and nothing in it changes: the message names the file, both numbers and what to do."""
    made_newer(first / "run")
    before = {path: path.read_bytes() for path in (first / "run").rglob("*") if path.is_file()}
    with embedded.serving(Behaviour()) as url, pytest.raises(JobError) as refused:
        batchrun.run(first / "rows.jsonl", **settings(first, url))
    said = str(refused.value)
    assert f"format {FORMAT + 1}; this one knows up to {FORMAT}" in said
    assert "update batchrun, or give another place with -o" in said
    assert "\n" not in said
    assert {path: path.read_bytes() for path in before} == before


def test_a_newer_run_is_no_source_of_answers(first: Path, embedded: Endpoints, tmp_path: Path) -> None:
    """`reuse` of a directory that a newer version wrote is refused too."""
    newer_manifest(first / "run")
    job = tmp_path / "job.toml"
    job.write_text(f'reuse = ["{first}/run"]\n[input]\npath = "{first}/rows.jsonl"\n')
    with embedded.serving(Behaviour()) as url, pytest.raises(JobError, match="a newer batchrun wrote"):
        batchrun.run(job, **settings(tmp_path, url))


def test_a_journal_says_its_format_first(tmp_path: Path) -> None:
    """In its first line; one of a newer format is refused before its lines are called damaged."""
    path = tmp_path / "journal"
    rewrite(path, "digest", [])
    header = opened_line(path.read_bytes().rstrip())
    assert header is not None
    assert (header.shard, header.format) == ("digest", FORMAT)
    newer = with_checksum(b'{"shard":"digest","format":%d}' % (FORMAT + 1)) + b"\nwhat comes then\n"
    path.write_bytes(newer)
    with pytest.raises(LedgerError, match=f"format {FORMAT + 1}"):
        replay(path)


def test_the_old_directory_is_what_the_old_version_wrote() -> None:
    """No number anywhere, and checksums that hold."""
    text = without_checksum((FIRST / "run" / ".state" / "inventory.json").read_bytes())
    assert text is not None
    assert b'"format":1' not in text
    found = replay(FIRST / "run" / ".state" / "journal-00001.jsonl")
    assert (len(found.results), len(found.in_flight())) == (1, 1)
