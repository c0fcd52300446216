"""The flags that `run`, `plan` and `check` share, made from the one table of settings."""

import inspect
import json
import os
import shlex
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import typer

from batchrun.errors import JobError
from batchrun.names import PARAMETERS
from batchrun.settings import TABLE, Row, Settings

RETRY_KINDS = "--retry-failed-kinds"
Source = Annotated[
    str, typer.Argument(help="A job.toml; or an input: a file, a directory or a glob; or a run directory, to go on.")
]


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting. Its last parameter, `settings`, gets those that were given."""
    signature = inspect.signature(command)
    own = [one for name, one in signature.parameters.items() if name != "settings"]
    flags = [
        inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(row))
        for row in TABLE.values()
    ]

    def called(**given: Any) -> None:
        chosen = {name: _text(TABLE[name], given.pop(name)) for name in TABLE}
        if chosen["params"] is not None:
            chosen["params"] = params(chosen["params"])
        settings = cast("Settings", {name: value for name, value in chosen.items() if value is not None})
        command(**given, settings=settings)

    called.__doc__ = command.__doc__
    first = [one for one in own if one.default is inspect.Parameter.empty]
    rest = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one not in first]
    called.__dict__["__signature__"] = signature.replace(parameters=[*first, *flags, *rest])
    return called


def with_kinds(args: Sequence[str]) -> list[str]:
    """The arguments with `--retry-failed=KIND,…` as the option that takes a value; click has none that may."""
    flag = "--retry-failed="
    return [f"{RETRY_KINDS}={arg.removeprefix(flag) or ','}" if arg.startswith(flag) else arg for arg in args]


def refuse_parameters(args: Sequence[str]) -> None:
    """Raise JobError for a request parameter that is written as a flag, with how it is written."""
    if args[:1] not in (["run"], ["plan"], ["check"]):
        return
    flags = {flag for row in TABLE.values() for flag in row.flag.split("/")}
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        flag, sign, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in PARAMETERS and flag not in flags:
            pair = f"{name}={(value if sign else following) or '…'}"
            raise JobError(f"{flag} is a parameter of the request: write --param {shlex.quote(pair)}")


def _option(row: Row) -> Any:
    """A setting as typer wants it: the type that is typed in, and how it is read."""
    kinds = [kind for kind in get_args(row.type) if kind is not type(None)]
    names = [row.flag] if kinds == [bool] else row.flag.split("/")
    parser = None
    kind: Any = kinds[0]
    if get_origin(kind) is dict:
        kind = list[str]
    elif get_origin(kinds[-1]) is Literal and len(kinds) > 1:
        kind, parser = str, _number_or(get_args(kinds[-1]))
    elif str in kinds:
        kind = str
    return Annotated[kind | None, typer.Option(*names, help=row.help, metavar=row.metavar, parser=parser)]


def _text(row: Row, value: Any) -> Any:
    """A value as text that a job can hold: where the locale is not UTF-8, the bytes typed in are still what was meant."""
    if isinstance(value, list):
        return [_text(row, one) for one in value]
    if not isinstance(value, str) or row.name == "output":
        return value
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        raise JobError(f"{row.flag}: not UTF-8 text") from None


def _number_or(words: tuple[str, ...]) -> Callable[[str], int | str]:
    def read(text: str) -> int | str:
        if text in words:
            return text
        try:
            return int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: give a whole number or {' or '.join(words)}") from None

    return read


def params(pairs: list[str]) -> dict[str, Any]:
    """KEY=JSON pairs; a value that isn't JSON is taken as text, so that `--param user=me` works without quotes."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise JobError(f"--param {pair!r}: write KEY=JSON, for example --param temperature=0.5")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            if value[:1] in ("{", "[", '"'):
                raise JobError(f"--param {key}: {value!r} is not valid JSON") from None
            found[key] = value
    return found
