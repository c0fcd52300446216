"""What a run's private state holds for."""

from typing import Any

import msgspec
import pytest

from batchrun.job import Job
from batchrun.ledger.identity import Identity, identity
from batchrun.sections import Endpoint, Input, Output

JOB = Job(input=Input(path="in.jsonl"), endpoint=Endpoint(model="m"), output=Output(path="out"))
FILES = [("in.jsonl", 10, "stamp")]

CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "how answers travel": ({"params": {"stream": True}}, set()),
    "a parameter": ({"params": {"temperature": 0.5}}, {"requests"}),
    "samples": ({"samples": 2}, {"requests"}),
    "the model": ({"endpoint": Endpoint(model="other")}, {"requests"}),
    "the endpoint": ({"endpoint": Endpoint(model="m", base_url="http://elsewhere")}, set()),
    "the id": ({"input": Input(path="in.jsonl", id="key")}, {"requests"}),
    "the limit": ({"input": Input(path="in.jsonl", limit=5)}, {"files"}),
    "bad rows": ({"input": Input(path="in.jsonl", on_bad_row="fail")}, {"files"}),
}


@pytest.mark.parametrize(("change", "parts"), CHANGES.values(), ids=CHANGES)
def test_a_change_touches_its_own_part(change: dict[str, Any], parts: set[str]) -> None:
    """Each setting counts in just one of files, requests and columns, and one that shapes neither in none."""
    before, after = identity(JOB, FILES, "c"), identity(msgspec.structs.replace(JOB, **change), FILES, "c")
    assert {name for name in Identity.__struct_fields__ if getattr(before, name) != getattr(after, name)} == parts


def test_a_touched_file_is_scanned_again_and_keeps_its_shards() -> None:
    """A file's stamp decides about the scan; whether parts hold is told by their shards, requests and columns."""
    before, after = identity(JOB, FILES, "c"), identity(JOB, [("in.jsonl", 10, "later")], "c")
    assert not after.scans_like(before)
    assert after.shards(()) == before.shards(())
    assert identity(JOB, FILES, "other").scans_like(before)
    assert identity(JOB, FILES, "other").shards(()) != before.shards(())
