"""The job file: what it refuses, by name and place, and what it reads (contract.md §5)."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

import batchrun.job
from batchrun.errors import JobError
from batchrun.job import Job, from_table, load, merged
from batchrun.sections import Limits, Price


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


UNKNOWN = {
    "top level": ('sampels = 2\n[input]\npath = "x"\n', 1, "sampels", "samples"),
    "table": ('samples = 1\n\n[endpoints]\nmodel = "m"\n', 3, "endpoints", "endpoint"),
    "in a table": (
        '[input]\npath = "x"\n[limits]\n# a comment\nconcurency = 3\n',
        5,
        "limits.concurency",
        "concurrency",
    ),
    "same name elsewhere": ("[input]\nlimit = 3\n[retry]\nmax_attempt = 3\n", 4, "retry.max_attempt", "max_attempts"),
    "valid in another table": ('[input]\nmodel = "m"\n', 2, "input.model", "did you mean `endpoint.model`?"),
    "a parameter in a table": ("[endpoint]\ntemperature = 0\n", 2, "endpoint.temperature", "`params.temperature`"),
    "a parameter at the top": ("max_tokens = 5\n", 1, "max_tokens", "did you mean `params.max_tokens`?"),
    "unlike any": (
        "[input]\nzebra = 1\n",
        2,
        "input.zebra",
        "valid keys: path, id, limit, where, sample, seed, on_bad_row",
    ),
    "indented": ("[timeouts]\n  first_tokens = 3\n", 2, "timeouts.first_tokens", "first_token"),
    "dotted": ("samples = 1\nlimits.rpm = 3\n", 2, "limits.rpm", "did you mean `limits.requests_per_minute`?"),
    "inline table": ("samples = 1\nendpoint = { header = {} }\n", 2, "endpoint.header", "headers"),
    "price of a model": ('[prices."a-b"]\ninput = 1\noutputs = 2\n', 3, "prices.a-b.outputs", "output"),
    "one pooled endpoint": ('[[endpoint]]\nurl = "x"\n', 2, "endpoint.url", "base_url"),
}


@pytest.mark.parametrize(("text", "line", "key", "near"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_key(tmp_path: Path, text: str, line: int, key: str, near: str) -> None:
    """An unknown key is refused with its dotted name, its file and line, and the nearest valid key."""
    path = written(tmp_path, text)
    with pytest.raises(JobError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: unknown key `{key}`")
    assert near in message


WRONG_TYPES = {
    "text for a number": ('[limits]\nconcurrency = "many"\n', 2, "limits.concurrency"),
    "text for samples": ('samples = "two"\n', 1, "samples"),
    "bool for a number": ("[retry]\nmax_attempts = true\n", 2, "retry.max_attempts"),
    "number for text": ("[endpoint]\n\nmodel = 4\n", 3, "endpoint.model"),
    "unknown choice": ('[input]\non_bad_row = "skip"\n', 2, "input.on_bad_row"),
    "table for text": ("[prompt.user]\ntext = 1\n", 1, "prompt.user"),
    "text for a table": ('samples = 1\nlimits = "none"\n', 2, "limits"),
    "missing key": ('[prices."m"]\ninput = 1\n', 1, "output"),
    "header that is a number": ("[endpoint]\nheaders = { a = 1 }\n", 2, "endpoint.headers"),
    "sweep of one value": ("[sweep]\ntemperature = 0.5\n", 1, "sweep"),
}


@pytest.mark.parametrize(("text", "line", "key"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_type(tmp_path: Path, text: str, line: int, key: str) -> None:
    """A value of a wrong type is refused with its file and line, and its key."""
    path = written(tmp_path, text)
    with pytest.raises(JobError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert key in message


LATER: dict[str, dict[str, Any]] = {
    "parse": {"parse": {"labels": ["a"]}},
    "score": {"score": [{"name": "a", "kind": "exact"}]},
    "mode": {"endpoint": {"mode": "batch"}},
    "budget_usd": {"limits": {"budget_usd": 1.0}},
    'concurrency = "auto"': {"limits": {"concurrency": "auto"}},
    "pool": {"endpoint": [{"model": "a"}, {"model": "b"}]},
}


@pytest.mark.parametrize(("name", "table"), LATER.items(), ids=LATER)
def test_later_keys_are_refused_not_ignored(name: str, table: dict[str, Any]) -> None:
    """A key of the contract whose work is not there yet is refused by name, never quietly ignored."""
    with pytest.raises(JobError, match="not yet supported") as caught:
        from_table(table, where="the-job.toml")
    assert name in str(caught.value)
    assert str(caught.value).startswith("the-job.toml: ")


RANGES = {
    "samples = 0": ({"samples": 0}, "samples = 0: must be at least 1"),
    "concurrency = 0": ({"limits": {"concurrency": 0}}, "limits.concurrency = 0: must be at least 1"),
    "rpm = 0": ({"limits": {"requests_per_minute": 0}}, "limits.requests_per_minute = 0"),
    "tpm = 0": ({"limits": {"tokens_per_minute": 0}}, "limits.tokens_per_minute = 0.0: must be above 0"),
    "no room for an answer": (
        {"limits": {"tokens_per_minute": 1000}, "params": {"max_tokens": 1001}},
        "params.max_tokens = 1001 is more than limits.tokens_per_minute = 1000: no request would ever fit",
    ),
    "no room for thoughts": (
        {"limits": {"tokens_per_minute": 1000}, "params": {"max_completion_tokens": 5000}},
        "params.max_completion_tokens = 5000 is more than",
    ),
    "rpm < 0": ({"limits": {"requests_per_minute": -1.5}}, "must be above 0"),
    "no attempts": ({"retry": {"max_attempts": 0}}, "retry.max_attempts = 0: must be at least 1"),
    "wait < 0": ({"retry": {"max_wait_s": -1}}, "retry.max_wait_s = -1"),
    "limit < 0": ({"input": {"limit": -1}}, "input.limit = -1: must be at least 0"),
    "no time": ({"timeouts": {"total": 0}}, "timeouts.total = 0"),
    "nan": ({"timeouts": {"first_token": float("nan")}}, "timeouts.first_token = nan"),
    "price < 0": ({"prices": {"m": {"input": 1, "output": -1}}}, 'prices."m": a price is below 0'),
}


@pytest.mark.parametrize(("table", "says"), RANGES.values(), ids=RANGES)
def test_value_out_of_range(table: dict[str, Any], says: str) -> None:
    """A value out of its range is refused with its key, the value and the bound."""
    with pytest.raises(JobError) as caught:
        from_table(table)
    assert says in str(caught.value)


def test_every_table_is_read(tmp_path: Path) -> None:
    """A job that uses every supported table is read as it is written, with defaults for the rest."""
    text = """
        samples = 3
        [input]
        path = "a.jsonl"
        limit = 0
        [prompt]
        user = "{{ text }}"
        [[endpoint]]
        base_url = "https://x/v1"
        headers = { "X-Title" = "t" }
        [params]
        anything = { at = ["all"] }
        [limits]
        requests_per_minute = 500
        [prices."m"]
        input = 0.25
        output = 1
        [sweep]
        temperature = [0.0, 0.7]
        [[variant]]
        name = "terse"
        [output]
        raw = true
    """
    job = load(written(tmp_path, "\ufeff" + text))
    assert (job.samples, job.input.path, job.input.limit, job.input.on_bad_row) == (3, "a.jsonl", 0, "stop")
    assert job.endpoint.headers == {"X-Title": "t"}
    assert job.params == {"anything": {"at": ["all"]}}
    assert job.limits == Limits(concurrency=64, requests_per_minute=500.0)
    assert job.prices == {"m": Price(0.25, 1.0)}
    assert job.sweep == {"temperature": [0.0, 0.7]}
    assert job.variant == [{"name": "terse"}]
    assert (job.output.raw, job.output.single_file, job.retry.max_attempts) == (True, True, 8)


UNREADABLE = {
    "not TOML": (b"[input]\npath = x\n", ":2: not valid TOML"),
    "not UTF-8": (b'a = "\xff"', "not UTF-8 (byte 5)"),
    "missing": (None, "cannot read the job file"),
}


@pytest.mark.parametrize(("content", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A job file that can't be read is one JobError that names the file, and the line where there is one."""
    path = tmp_path / "job.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_merged_replaces_fields_and_merges_tables() -> None:
    """Flags replace single fields, merge into dicts, and leave alone what they don't name or give as None."""
    job = from_table({"samples": 2, "params": {"a": 1, "b": 2}, "limits": {"requests_per_minute": 9}})
    changed = merged(
        job, {"limits.concurrency": 8, "input.path": "x", "params": {"b": 3}, "samples": 4, "endpoint.model": None}
    )
    assert changed.limits == Limits(concurrency=8, requests_per_minute=9.0)
    assert (changed.input.path, changed.params, changed.samples) == ("x", {"a": 1, "b": 3}, 4)
    assert changed.endpoint == job.endpoint
    assert job.samples == 2
    assert merged(job, {}) == job


def test_default_job_is_valid() -> None:
    """Every table is optional: an empty job file is a job."""
    assert from_table({}) == Job()


TABLES = {name.lower(): one for name, one in vars(batchrun.job).items() if isinstance(one, type(Job))}


@pytest.mark.parametrize("table", TABLES.values())
def test_every_table_says_what_its_keys_are(table: type[msgspec.Struct]) -> None:
    """A table of a job names its keys one by one, in its docstring, unless a key is a table itself."""
    assert table.__doc__ is not None
    said = {name for name in table.__struct_fields__ if f"`{name}`" in table.__doc__}
    assert set(table.__struct_fields__) - said <= (TABLES.keys() if table is Job else set())
