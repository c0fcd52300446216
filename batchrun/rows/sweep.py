"""The variants of a job: the cross product of `[sweep]`, then the `[[variant]]` tables; one `default` without either."""

import itertools
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.job import Job
from batchrun.records import Variant

_PROMPT_KEYS = ("system", "user", "messages")


def variants(job: Job) -> tuple[Variant, ...]:
    """Every variant, in order. Names are unique; raises JobError where they are not."""
    found: list[Variant] = []
    if job.sweep:
        for key, values in job.sweep.items():
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


def _variant(name: str, settings: dict[str, Any]) -> Variant:
    prompt = {key: settings.pop(key) for key in _PROMPT_KEYS if key in settings}
    return Variant(name, settings, prompt)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
