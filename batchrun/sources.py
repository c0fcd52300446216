"""Which job a source and some settings make: the one place where a path, a job, rows in memory and flags come together."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, Unpack

import msgspec

from batchrun.errors import JobError, Kind
from batchrun.job import Job, from_table, load, merged, refuse
from batchrun.names import PARAMETERS, nearest
from batchrun.prompt_files import with_files
from batchrun.rows.memory import Memory
from batchrun.rows.spool import run_name
from batchrun.rows.sweep import fixed
from batchrun.runner.kept import kept_job
from batchrun.settings import TABLE, Settings


class ArrowStream(Protocol):
    """What pyarrow, pandas and polars tables offer to others (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Source = str | Path | Job | ArrowStream | Iterable[Mapping[str, Any]]
"""A job file, an input (a file, a directory, a glob, a URL), a run directory, a Job, or rows: a list of dicts or any other
iterable of them, a pyarrow table, a pandas or polars frame.
"""


def as_file(source: Source) -> tuple[str | Job, Memory | None]:
    """A source as a path or a job, and what must live as long as its rows are read. Raises JobError."""
    if isinstance(source, Job):
        return source, None
    if isinstance(source, str | os.PathLike):
        return os.fspath(source), None
    memory = Memory(source)
    return memory.path, memory


def make_job(source: str | Job, *, on_note: Callable[[str], None] | None = None, **settings: Unpack[Settings]) -> Job:
    """The job of a source, with settings that override it, also over its sweep. Raises JobError."""
    for name in settings.keys() - TABLE.keys():
        near = f"params={{{name!r}: …}}" if name in PARAMETERS else nearest(name, TABLE)
        raise JobError(
            f"unknown setting `{name}`; " + (f"did you mean `{near}`?" if near else f"known: {', '.join(TABLE)}")
        )
    given = {name: value for name, value in settings.items() if value is not None}
    changes: dict[str, Any] = {TABLE[name].key: value for name, value in with_files(given).items()}
    if (engine := changes.pop("engine", "local")) != "local":
        raise JobError(f"engine {engine!r} is understood but not yet supported; use local")
    if isinstance(source, Job):
        job, name = source, "job"
    elif source.endswith(".toml"):
        job, name = load(source), source
    elif (kept := kept_job(source)) is not None:
        job, name = kept, source
    else:
        job, name = from_table({"input": {"path": source}}), "flags"
    if job.output.path is None and "output.path" not in changes:
        changes["output.path"] = (
            f"runs/{run_name(job.input.path or name) if name in ('job', 'flags') else Path(name).stem}"
        )
    job, lost = fixed(job, _swept_keys(changes))
    if lost and on_note is not None:
        on_note(f"what is given here holds for every variant; left out of the job: {', '.join(lost)}")
    if "prompt.user" in changes:
        job = msgspec.structs.replace(job, prompt=msgspec.structs.replace(job.prompt, messages=None))
    job = merged(job, changes, name)
    if "input.seed" in changes and job.input.sample is None:
        raise JobError("seed chooses the rows of a sample, and there is none; a request's own seed is --param seed=…")
    refuse(job, name)
    return job


def asked_with(settings: Settings) -> dict[str, Any]:
    """Those of some settings that shape a request, as they were given: a file by its name."""
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        key = TABLE[name].key
        shapes = key.startswith(("prompt.", "endpoint.model", "params", "samples"))
        if shapes and value is not None and name not in ("same_prompt", "stream"):
            kept[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
    return kept


def failures_named(given: bool | str | Iterable[str]) -> frozenset[str] | None:
    """The kinds of failures that `retry_failed` means: none at all is None, all of them an empty set. Raises JobError."""
    if isinstance(given, bool):
        return frozenset() if given else None
    names = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    for name in names:
        if name not in set(Kind):
            near = nearest(str(name), Kind)
            known = f"did you mean `{near}`?" if near else f"kinds: {', '.join(Kind)}"
            raise JobError(f"retry_failed: no failure is of the kind `{name}`; {known}")
    return frozenset(names)


def _swept_keys(changes: Mapping[str, Any]) -> set[str]:
    """The keys of a sweep or a variant that the changes decide."""
    keys = {key.rpartition(".")[2] for key in changes if key.startswith(("endpoint.model", "prompt.", "params."))}
    return keys | set(changes.get("params", ())) | ({"messages"} if "user" in keys else set())
