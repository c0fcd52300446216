"""The job that a run directory keeps, so that a run goes on from its directory alone."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.job import Job, may_be_secret
from batchrun.ledger.manifest import HIDDEN
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import is_object_url, is_url, shown_url
from batchrun.rows.files import format_of, lasting
from batchrun.runner import notified
from batchrun.sections import Notify
from batchrun.wire.outgoing import is_reference

KEY_FOR_A_NAME = (
    "api_key_env is not the name of a variable that is set, and is not shown since it may be the key itself; "
    "export OPENAI_API_KEY=… and give that name"
)


def to_keep(job: Job) -> dict[str, Any]:
    """The job as run.json keeps it: a header's value and a bucket's URL may hold a key."""
    shown = {name: value if is_reference(value) else HIDDEN for name, value in job.endpoint.headers.items()}
    kept = msgspec.structs.replace(
        job,
        endpoint=msgspec.structs.replace(job.endpoint, headers=shown),
        input=msgspec.structs.replace(job.input, path=_kept_path(job.input.path)),
        output=msgspec.structs.replace(job.output, path=_keyless(job.output.path)),
        notify=notified.kept(job.notify),
        reuse=[_kept_path(path) or "" for path in job.reuse],
    )
    found: dict[str, Any] = msgspec.to_builtins(kept)
    return found


def to_read(job: Job, environ: Mapping[str, str]) -> Job:
    """The job to be read by and not asked with: it needs no variable, has no key, and tells nobody. Raises JobError for what
    stands where a variable's name belongs and may be the key itself.
    """
    named = job.endpoint.api_key_env
    if named and may_be_secret(named) and not environ.get(named):
        raise JobError(KEY_FOR_A_NAME)
    endpoint = msgspec.structs.replace(job.endpoint, headers={}, api_key_env=None)
    return msgspec.structs.replace(job, endpoint=endpoint, notify=Notify())


def kept_job(path: str) -> Job | None:
    """The job of the run in a directory, which writes there again; None where there is no run. Raises JobError for one
    that its directory alone does not tell.
    """
    if is_url(path):
        if not is_object_url(path) or format_of(path) or any(sign in path for sign in "*?["):
            return None
        manifest = None
        with contextlib.suppress(JobError, LedgerError):  # whatever it is, it is no run that could be read
            manifest = RunDir(path).read_manifest()
    else:
        manifest = RunDir(path).read_manifest() if (Path(path) / "run.json").is_file() else None
    if manifest is None:
        return None
    try:
        job = msgspec.convert(manifest.job, Job)
    except msgspec.ValidationError as error:
        raise JobError(f"{path}: its run.json is of another version ({error}); run its job file again") from None
    if hidden := [name for name, value in job.endpoint.headers.items() if value == HIDDEN]:
        raise JobError(
            f"{path}: its job has headers whose values are not kept ({', '.join(hidden)}); run its job file again"
        )
    job = steered(job, manifest.steered)
    return msgspec.structs.replace(job, output=msgspec.structs.replace(job.output, path=path))


def steered(job: Job, limits: Mapping[str, float]) -> Job:
    """The job with limits that were changed while it ran (`batchrun set`)."""
    known = {name: value for name, value in limits.items() if name in ("concurrency", "requests_per_minute")}
    retry = {name: int(value) for name, value in limits.items() if name == "max_attempts"}
    if "concurrency" in known:
        known["concurrency"] = int(known["concurrency"])
    return msgspec.structs.replace(
        job,
        limits=msgspec.structs.replace(job.limits, **known),
        retry=msgspec.structs.replace(job.retry, **retry),
    )


def _kept_path(path: str | None) -> str | None:
    """A path as run.json keeps it: one that holds in any working directory, or a URL without a key."""
    return path if path in (None, "-") else _keyless(path) if is_url(path) else lasting(path)


def _keyless(path: str | None) -> str | None:
    return shown_url(path) if path is not None and is_url(path) else path
