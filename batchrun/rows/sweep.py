"""The variants of a job: the cross product of `[sweep]`, then the `[[variant]]` tables; one `default` without either."""

import hashlib
import itertools
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.names import nearest, parameter_meant
from batchrun.records import Variant

_PROMPT_KEYS = ("system", "user", "messages")
_OWN_KEYS = ("model", *_PROMPT_KEYS)
_LONGEST_NAME = 32
_KEPT_OF_NAME = 20


def variants(job: Job) -> tuple[Variant, ...]:
    """Every variant, in order. Names are unique; raises JobError where they are not."""
    found: list[Variant] = []
    for table in (job.sweep, *job.variant):
        if "endpoint" in table:
            raise JobError(
                "variants that differ in `endpoint` are understood but not yet supported; name one [endpoint]"
            )
    if job.sweep:
        for key, values in job.sweep.items():
            if (meant := _meant(key)) is not None:
                raise JobError(
                    f"sweep.{key}: no endpoint knows a parameter of that name; did you mean `{meant}`? "
                    "(one that you do mean can stand in a [[variant]])"
                )
            if not values:
                raise JobError(f"sweep.{key} is empty; give it at least one value or leave it out")
        for cell in itertools.product(*job.sweep.values()):
            settings = dict(zip(job.sweep, cell, strict=True))
            found.append(_variant(",".join(f"{key}={_short(value)}" for key, value in settings.items()), settings))
    for number, table in enumerate(job.variant):
        settings = dict(table)
        name = settings.pop("name", None)
        if not isinstance(name, str) or not name:
            raise JobError(f'[[variant]] number {number + 1} has no name; give it `name = "…"`')
        found.append(_variant(name, settings))
    names = [variant.name for variant in found]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"two variants are named `{name}`; every variant needs a name of its own")
    return tuple(found) or (Variant(),)


def fixed(job: Job, keys: AbstractSet[str]) -> tuple[Job, list[str]]:
    """The job whose variants no longer differ in `keys`, since a flag holds for all of them; and the keys that were left out."""
    lost = [f"sweep.{key}" for key in job.sweep if key in keys]
    lost += [f"variant.{table.get('name')}.{key}" for table in job.variant for key in table if key in keys]
    if not lost:
        return job, []
    sweep = {key: values for key, values in job.sweep.items() if key not in keys}
    variant = [{key: value for key, value in table.items() if key not in keys} for table in job.variant]
    return msgspec.structs.replace(job, sweep=sweep, variant=variant), lost


def differing(job: Job) -> dict[str, dict[str, Any]]:
    """The parameters in which the job's variants differ, the model among them: for each its value by variant. One that a
    variant leaves alone is the job's own, None where the job has none.
    """
    found = variants(job)
    own = {"model": job.endpoint.model, **job.params}
    table = {
        name: {one.name: one.params.get(name, own.get(name)) for one in found}
        for name in dict.fromkeys(name for one in found for name in one.params)
    }
    return {
        name: values for name, values in table.items() if len({msgspec.json.encode(v) for v in values.values()}) > 1
    }


def _meant(key: str) -> str | None:
    """What a swept key that is nearly a known one was perhaps to be; None for any other."""
    if key == "prompt":
        return "user"
    return None if key in _OWN_KEYS else nearest(key, _OWN_KEYS, 0.8) or parameter_meant(key)


def _variant(name: str, settings: dict[str, Any]) -> Variant:
    prompt = {key: settings.pop(key) for key in _PROMPT_KEYS if key in settings}
    return Variant(name, settings, prompt)


def _short(value: Any) -> str:
    """A value as part of a name: a long one by its beginning and a digest of all of it, the same in every run."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= _LONGEST_NAME and text.isprintable():
        return text
    start = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _KEPT_OF_NAME]).split())
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    return f"{start[:_KEPT_OF_NAME].rstrip()}…{digest}"
