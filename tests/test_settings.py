"""The one table of settings: its rows are the flags of contract.md §2, and set keys that a job has."""

import inspect
from typing import Any

import msgspec
import pytest

from batchrun.cli import check, plan, run
from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.settings import TABLE, Settings, explicit

CONTRACT = """--base-url --model --api-key-env --system --prompt --param --stream --samples --concurrency --rpm --tpm --budget
--max-attempts --timeout --limit --prompt-file --sample --where --engine"""


def test_every_flag_of_the_contract_is_a_row() -> None:
    """contract.md §2 names the flags; each stands in the table once."""
    flags = [row.flag.partition("/")[0] for row in TABLE.values()]
    assert set(CONTRACT.split()) <= set(flags)
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("name", TABLE)
def test_a_row_sets_a_key_of_the_job(name: str) -> None:
    """A setting that no job knows would be lost."""
    table, _, field = TABLE[name].key.partition(".")
    if name == "engine":
        return
    assert table in Job.__struct_fields__
    inner = getattr(Job(), table)
    assert not field or isinstance(inner, dict) or field in inner.__struct_fields__


@pytest.mark.parametrize("module", [run, plan, check], ids=lambda module: module.__name__)
def test_a_command_has_every_flag(module: Any) -> None:
    """`run`, `plan` and `check` take the same flags, after SOURCE and before their own."""
    names = list(inspect.signature(module.command).parameters)
    assert names[: len(TABLE) + 1] == ["source", *TABLE]


def test_the_keywords_are_seen_one_by_one() -> None:
    """A signature and a docstring show each keyword with its type and its sentence."""

    @explicit
    def face(source: str, **settings: Any) -> None:
        """Do it."""

    parameters = inspect.signature(face).parameters
    assert list(parameters) == ["source", *TABLE]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in TABLE)
    assert set(Settings.__annotations__) == set(TABLE)
    assert face.__doc__ is not None
    for row in TABLE.values():
        assert row.help in face.__doc__


def test_a_job_with_a_value_of_a_wrong_type_is_refused() -> None:
    """What `merged` puts in is checked like a job file's."""
    from batchrun.job import merged

    with pytest.raises(JobError, match=r"job: limits.requests_per_minute: expected `float"):
        merged(Job(), {"limits.requests_per_minute": "fast"})
    assert merged(Job(), {"params.stream": True, "params": {"top_p": 1}}).params == {"stream": True, "top_p": 1}
    assert msgspec.to_builtins(merged(Job(), {})) == msgspec.to_builtins(Job())


def test_a_default_is_the_jobs_own() -> None:
    """The help of a setting shows the number that stands in the job's tables, and is given none of its own."""
    assert TABLE["concurrency"].help.endswith(f"[default: {Job().limits.concurrency}]")
    assert TABLE["timeout"].help.endswith(f"[default: {Job().timeouts.total:g}]")
    assert "default" not in TABLE["rpm"].help
