"""From a table of a job file, or a plain dict, to a frozen record, with faults that name the key and file:line.

Knows how records and TOML are made, and nothing of what a job has in it.
"""

import os
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from batchrun.errors import JobError
from batchrun.names import key_meant, nearest

_Record = TypeVar("_Record")
_NEARLY = 0.75


def converted(table: Any, kind: type[_Record], where: str, text: str = "") -> _Record:
    """The record that a dict stands for. `where` names its source, `text` is the TOML that it was read from.

    Raises JobError for a value of a wrong type, by its key.
    """
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$.")
        key = at.rstrip("`") or "the job"
        raise JobError(f"{_at(where, text, key.split('.'))}: {key}: {message[0].lower()}{message[1:]}") from None


def plain(value: Any, where: str = "job") -> Any:
    """A value made of what TOML has; a path becomes text. Raises JobError for what no TOML could hold."""
    try:
        return msgspec.to_builtins(value, enc_hook=os.fspath)
    except TypeError as error:
        raise JobError(f"{where}: a setting has a value that no job file could hold: {error}") from None


def refuse_unknown(value: Any, kind: Any, where: str, text: str, path: tuple[str, ...] = (), root: Any = None) -> None:
    """Raise JobError for a key that a record of this kind, or one within it, does not have, with the nearest one it has."""
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        if isinstance(option, type) and issubclass(option, msgspec.Struct) and isinstance(value, dict):
            hints = typing.get_type_hints(option)
            for key, inner in value.items():
                if key not in hints:
                    at = _at(where, text, [*path, key])
                    raise JobError(f"{at}: unknown key `{'.'.join([*path, key])}`; {_meant(key, hints, root or kind)}")
                refuse_unknown(inner, hints[key], where, text, (*path, key), root or kind)
        elif typing.get_origin(option) in (list, dict) and isinstance(value, list | dict):
            inner_kind = typing.get_args(option)[-1]
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in pairs:
                refuse_unknown(inner, inner_kind, where, text, (*path, str(key)), root or kind)


def _meant(key: str, hints: Iterable[str], root: Any) -> str:
    """What a person who wrote an unknown key perhaps meant: one in the same table, one elsewhere, or else all there are."""
    close = nearest(key, hints, _NEARLY)
    elsewhere = None if close else key_meant(key, _places(root))
    near = elsewhere or nearest(key, hints)
    return f"did you mean `{near}`?" if near else f"valid keys: {', '.join(hints)}"


def _places(root: Any) -> list[str]:
    """Every dotted key of a record of records."""
    found = []
    for name, kind in typing.get_type_hints(root).items():
        tables = [
            one for one in (kind, *typing.get_args(kind)) if isinstance(one, type) and issubclass(one, msgspec.Struct)
        ]
        found += [f"{name}.{field}" for table in tables for field in typing.get_type_hints(table)] or [name]
    return found


def _at(where: str, text: str, path: list[str]) -> str:
    """file:line of a key, found in the TOML text: the last table header on its path, then the key itself."""
    lines, line = text.splitlines(), 0
    for name in path:
        name = re.escape(name.partition("[")[0])
        pattern = re.compile(rf'^\s*(\[+\s*(?:[\w".-]+\.)?"?{name}"?\s*[\].]|"?{name}"?\s*[=.])')
        line = next((n for n, found in enumerate(lines[line:], line) if pattern.match(found)), line)
    return f"{where}:{line + 1}" if lines else where
