"""The variants of a job (contract.md §5 [sweep])."""

from typing import Any

import pytest

from batchrun.errors import JobError
from batchrun.job import from_table
from batchrun.records import Variant
from batchrun.rows.sweep import variants

CASES: list[tuple[dict[str, Any], list[Variant]]] = [
    ({}, [Variant("default")]),
    (
        {"sweep": {"model": ["a", "b"], "temperature": [0.0, 1]}},
        [
            Variant(f"model={model},temperature={t}", {"model": model, "temperature": t})
            for model in "ab"
            for t in (0.0, 1)
        ],
    ),
    (
        {"variant": [{"name": "terse", "system": "One word.", "top_p": 0.5}]},
        [Variant("terse", {"top_p": 0.5}, {"system": "One word."})],
    ),
    (
        {"sweep": {"seed": [1]}, "variant": [{"name": "x"}]},
        [Variant("seed=1", {"seed": 1}), Variant("x")],
    ),
]


@pytest.mark.parametrize(("table", "expected"), CASES, ids=str)
def test_variants(table: dict[str, Any], expected: list[Variant]) -> None:
    """The cross product in order, then the variants by hand; one `default` without either."""
    assert variants(from_table(table)) == tuple(expected)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"sweep": {"model": []}}, "sweep.model is empty"),
    ({"variant": [{"top_p": 1}]}, "number 1 has no name"),
    ({"variant": [{"name": "a"}, {"name": ""}]}, "number 2 has no name"),
    ({"variant": [{"name": "a"}, {"name": "a"}]}, "two variants are named `a`"),
    ({"sweep": {"model": ["a", "a"]}}, "two variants are named `model=a`"),
    ({"sweep": {"endpoint": ["a", "b"]}}, "differ in `endpoint` are understood but not yet supported"),
    ({"variant": [{"name": "a", "endpoint": "b"}]}, "differ in `endpoint` are understood but not yet supported"),
]


@pytest.mark.parametrize(("table", "says"), REFUSED, ids=str)
def test_refused(table: dict[str, Any], says: str) -> None:
    """A sweep without values and variants without a name of their own are refused."""
    with pytest.raises(JobError, match=says):
        variants(from_table(table))
