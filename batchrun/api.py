"""The Python face: `run`, `arun`, `plan`, `check` and the jobs they take (contract.md §8)."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from batchrun.errors import JobError
from batchrun.interrupts import interruptible
from batchrun.job import Job, from_table, load, merged, refuse
from batchrun.judge.prices import Prices
from batchrun.runner.assembly import Assembly
from batchrun.runner.observer import Observer
from batchrun.runner.outlook import Outlook, Trial, outlook, trial
from batchrun.runner.session import Outcome, Session, interrupted
from batchrun.wire.transport import Transport

_FLAGS = {
    "base_url": "endpoint.base_url",
    "model": "endpoint.model",
    "api_key_env": "endpoint.api_key_env",
    "system": "prompt.system",
    "prompt": "prompt.user",
    "samples": "samples",
    "concurrency": "limits.concurrency",
    "rpm": "limits.requests_per_minute",
    "tpm": "limits.tokens_per_minute",
    "budget": "limits.budget_usd",
    "max_attempts": "retry.max_attempts",
    "timeout": "timeouts.total",
    "limit": "input.limit",
    "output": "output.path",
}
__all__ = ["Job", "Outcome", "Outlook", "Trial", "arun", "check", "make_job", "plan", "run"]

_MERGED = ("params", "stream", "engine")


def make_job(source: str | Job, **flags: Any) -> Job:
    """A job from a TOML path, an input path or a Job, with the flags' names as keywords (contract.md §2).

    `params` is a dict that is merged into the job's, `stream` a bool. Raises JobError.
    """
    unknown = flags.keys() - _FLAGS.keys() - set(_MERGED)
    if unknown:
        raise JobError(f"unknown setting: {', '.join(sorted(unknown))}; known: {', '.join([*_FLAGS, *_MERGED])}")
    if flags.get("engine") not in (None, "local"):
        raise JobError(f"engine {flags['engine']!r} is understood but not yet supported; use local")
    if isinstance(source, Job):
        job, name = source, "job"
    elif source.endswith(".toml"):
        job, name = load(source), source
    else:
        job, name = from_table({"input": {"path": source}}), "flags"
    if job.output.path is None:
        stem = Path(job.input.path or name).name.partition(".")[0] if name in ("job", "flags") else Path(name).stem
        job = merged(job, {"output.path": f"runs/{stem or 'run'}"})
    params = dict(flags.get("params") or {})
    if flags.get("stream") is not None:
        params["stream"] = flags["stream"]
    job = merged(job, {**{_FLAGS[key]: value for key, value in flags.items() if key in _FLAGS}, "params": params})
    refuse(job, name)
    return job


def run(source: str | Job, **settings: Any) -> Outcome:
    """Run a job, or go on with it. Takes what `arun` takes."""

    async def call() -> Outcome:
        return await arun(source, **settings)

    return anyio.run(call)


async def arun(
    source: str | Job,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    observer: Callable[[int, Prices], Observer] | None = None,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    signals: bool = False,
    **flags: Any,
) -> Outcome:
    """Run a job, or go on with it: the same call again resumes.

    `flags` are the command line's, as keywords (`concurrency=128`). `observer` makes an observer from the number of
    requests and the prices, `on_note` takes single messages. `transport` is any httpx transport to use in place of the
    own one. With `signals`, SIGINT, SIGTERM and SIGHUP drain the run, for `[timeouts] drain` seconds at most. Raises
    JobError before anything was sent; a stop by a guard, a signal or the disk is an Outcome with its exit code.
    """
    assembly = Assembly(make_job(source, **flags), os.environ if environ is None else environ, on_note)
    with assembly.run_dir.held():
        async with interruptible(signals) as interrupts:
            return await Session(assembly, interrupts).run(
                fresh=fresh, retry_failed=retry_failed, observer=observer, transport=transport
            )
        return interrupted(assembly.run_dir, interrupts)


def plan(source: str | Job, *, environ: Mapping[str, str] | None = None, **flags: Any) -> Outlook:
    """What a run would do, and about what it would cost. Sends nothing and writes nothing. Raises JobError."""
    return outlook(Assembly(make_job(source, **flags), os.environ if environ is None else environ))


def check(
    source: str | Job,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    **flags: Any,
) -> Trial:
    """Send the first request once and tell what came back. Writes nothing. Raises JobError."""
    assembly = Assembly(make_job(source, **flags), os.environ if environ is None else environ, on_note)

    async def call() -> Trial:
        return await trial(assembly, transport)

    return anyio.run(call)
