"""Whom a job's `[notify]` tells, with what its environment holds; and what of that a run directory may keep."""

from collections.abc import Callable, Mapping

import msgspec

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.ledger.manifest import HIDDEN
from batchrun.sections import Notify
from batchrun.wire.outgoing import is_reference, variables_in


def checked(job: Job, environ: Mapping[str, str], note: Callable[[str], None]) -> Notify:
    """Who is to be told, with the URL itself; `note` hears where a run directory has not kept it. Raises JobError where it is
    none.
    """
    url = job.notify.url
    if url is None:
        return job.notify
    if url == HIDDEN:
        note(
            "[notify] url is not kept in a run directory, since it may be a secret: it is told nothing of this call. Run the "
            'job file, or write "${NAME}" there and set that variable'
        )
        return msgspec.structs.replace(job.notify, url=None)
    names = variables_in(url) if is_reference(url) else []
    for name in names:
        url = environ.get(name, "").strip()
    if not url.startswith(("http://", "https://")) or not url.isprintable() or " " in url:
        what = f"[notify] url: the variable {names[0]}" if names else "[notify] url"
        raise JobError(f"{what} holds no URL: give http://… or https://…")
    return msgspec.structs.replace(job.notify, url=url)


def kept(notify: Notify) -> Notify:
    """The table as run.json keeps it: a URL may be a secret by itself, the name of a variable is none."""
    return notify if notify.url is None or is_reference(notify.url) else msgspec.structs.replace(notify, url=HIDDEN)


def secret_names(job: Job) -> set[str]:
    """The variables that hold keys: commands don't get them."""
    given = [name for value in job.endpoint.headers.values() for name in variables_in(value)]
    return {job.endpoint.api_key_env or "OPENAI_API_KEY", *given, *variables_in(job.notify.url or "")}
