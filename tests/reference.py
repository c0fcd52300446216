"""The job file's keys as README lists them: read from the records, so that the list can't be wrong."""

import types
import typing
from typing import Any, Literal, NamedTuple

import msgspec

from batchrun.job import Job
from batchrun.sections import Endpoint, Input, Limits, Metrics, Notify, Output, Price, Prompt, Retry, Timeouts

TABLES: tuple[tuple[str, Any], ...] = (
    ("", Job),
    ("input", Input),
    ("prompt", Prompt),
    ("endpoint", Endpoint),
    ("limits", Limits),
    ("retry", Retry),
    ("timeouts", Timeouts),
    ('prices."MODEL"', Price),
    ("output", Output),
    ("notify", Notify),
    ("metrics", Metrics),
)
_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false"}


class Key(NamedTuple):
    """One key: its place in a job file, what it takes, and what it is where it isn't given."""

    name: str
    takes: str
    default: str


def keys() -> list[Key]:
    """Every key that a job may have, table by table."""
    found = []
    for table, record in TABLES:
        hints = typing.get_type_hints(record)
        for field in msgspec.structs.fields(record):
            if table or field.name in ("samples", "reuse"):
                name = f"{table}.{field.name}" if table else field.name
                found.append(Key(name, _takes(hints[field.name]), _default(field)))
    return found


def _takes(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_takes(one) for one in args if one is not type(None))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in args)
    if origin is list:
        return "list"
    if origin is dict:
        return "table"
    return _WORDS[hint]


def _default(field: Any) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if value in ([], {}):
        return "empty"
    return f"`{value}`" if isinstance(value, str) else str(value)
