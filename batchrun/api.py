"""The Python face: `run`, `plan`, `check`, each also to be awaited, and the jobs they take (contract.md §8)."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import anyio
import anyio.to_thread
import msgspec

from batchrun.errors import JobError
from batchrun.interrupts import interruptible
from batchrun.job import Job, from_table, load, merged, refuse
from batchrun.judge.prices import Prices
from batchrun.names import PARAMETERS, nearest
from batchrun.prompt_files import with_files
from batchrun.rows.spool import run_name
from batchrun.rows.sweep import fixed
from batchrun.runner.assembly import Assembly
from batchrun.runner.kept import kept_job
from batchrun.runner.observer import Observer
from batchrun.runner.outcome import Outcome
from batchrun.runner.outlook import Outlook, Trial, outlook, trial
from batchrun.runner.session import Session, interrupted
from batchrun.settings import TABLE, Settings, explicit
from batchrun.wire.transport import Transport

__all__ = [
    "Job",
    "JobError",
    "Outcome",
    "Outlook",
    "Trial",
    "acheck",
    "aplan",
    "arun",
    "check",
    "make_job",
    "plan",
    "run",
]

Source = str | Path | Job
"""A job file, an input (a file, a directory, a glob, a URL), a run directory, or a Job."""


def make_job(source: Source, *, on_note: Callable[[str], None] | None = None, **settings: Unpack[Settings]) -> Job:
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
    elif os.fspath(source).endswith(".toml"):
        job, name = load(os.fspath(source)), os.fspath(source)
    elif (kept := kept_job(os.fspath(source))) is not None:
        job, name = kept, os.fspath(source)
    else:
        job, name = from_table({"input": {"path": os.fspath(source)}}), "flags"
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
    refuse(job, name)
    return job


def _swept_keys(changes: Mapping[str, Any]) -> set[str]:
    """The keys of a sweep or a variant that the changes decide."""
    keys = {key.rpartition(".")[2] for key in changes if key.startswith(("endpoint.model", "prompt.", "params."))}
    return keys | set(changes.get("params", ())) | ({"messages"} if "user" in keys else set())


@explicit
def run(
    source: Source,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    observer: Callable[[int, Prices], Observer] | None = None,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    signals: bool = False,
    **settings: Unpack[Settings],
) -> Outcome:
    """Run a job, or go on with it: the same call again resumes.

    `source` is a job file, an input or a Job. `fresh` sets an earlier run aside and starts over, `retry_failed` asks failed
    requests again. `observer` makes an observer from the number of requests and the prices, `on_note` takes single
    messages. `environ` is read in place of the environment. `transport` is any httpx transport to use in place of the
    own one. With `signals`, SIGINT, SIGTERM and SIGHUP drain the run, for `[timeouts] drain` seconds at most. Raises
    JobError before anything was sent; a stop by a guard, a signal or the disk is an Outcome with its exit code.
    """
    return anyio.run(
        partial(
            arun,
            source,
            fresh=fresh,
            retry_failed=retry_failed,
            observer=observer,
            on_note=on_note,
            environ=environ,
            transport=transport,
            signals=signals,
            **settings,
        )
    )


@explicit
async def arun(
    source: Source,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    observer: Callable[[int, Prices], Observer] | None = None,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    signals: bool = False,
    **settings: Unpack[Settings],
) -> Outcome:
    """What `run` does, to be awaited."""
    assembly = _assembly(source, settings, environ, on_note)
    with assembly.run_dir.held():
        async with interruptible(signals) as interrupts:
            return await Session(assembly, interrupts).run(
                fresh=fresh, retry_failed=retry_failed, observer=observer, transport=transport
            )
        return interrupted(assembly.run_dir, interrupts)


@explicit
def plan(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Outlook:
    """What a run would do, and about what it would cost. Sends nothing and writes nothing. Raises JobError."""
    return outlook(_assembly(source, settings, environ, on_note))


@explicit
async def aplan(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Outlook:
    """What `plan` does, to be awaited: the input is read in a thread."""
    return await anyio.to_thread.run_sync(partial(plan, source, on_note=on_note, environ=environ, **settings))


@explicit
def check(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    **settings: Unpack[Settings],
) -> Trial:
    """Send the first request once and tell what came back. Writes nothing. Raises JobError."""
    return anyio.run(partial(acheck, source, on_note=on_note, environ=environ, transport=transport, **settings))


@explicit
async def acheck(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    **settings: Unpack[Settings],
) -> Trial:
    """What `check` does, to be awaited."""
    return await trial(_assembly(source, settings, environ, on_note), transport)


def _assembly(
    source: Source,
    settings: Settings,
    environ: Mapping[str, str] | None,
    on_note: Callable[[str], None] | None = None,
) -> Assembly:
    return Assembly(make_job(source, on_note=on_note, **settings), os.environ if environ is None else environ, on_note)
