"""The job: what to run, as frozen records with every default in one place (contract.md §5).

`load` reads a TOML file, `from_table` a plain dict; both refuse unknown keys and wrong types by name, with the nearest
valid key. Nothing here touches the endpoint, the input or the environment.
"""

import difflib
import os
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

from batchrun.errors import JobError


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str | None = None
    id: str | None = None
    limit: int | None = None
    on_bad_row: Literal["stop", "fail"] = "stop"


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    system: str | None = None
    user: str | None = None
    messages: list[dict[str, Any]] | None = None


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    base_url: str | None = None
    api_key_env: str | None = None
    model: str | None = None
    mode: Literal["chat", "batch"] = "chat"
    headers: dict[str, str] = {}
    name: str | None = None
    weight: float = 1.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    concurrency: int | Literal["auto"] = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_attempts: int = 8
    max_wait_s: float = 60.0


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All in seconds (endpoint.md §5). `drain` is the grace for what is in flight when a run is told to stop."""

    connect: float = 10.0
    first_token: float = 120.0
    between_tokens: float = 60.0
    total: float = 600.0
    drain: float = 10.0


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. `cached_input` is `input` where it is not given."""

    input: float
    output: float
    cached_input: float | None = None


class Parse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: dict[str, Any] | None = None
    labels: list[str] | None = None
    kind: str | None = None
    max_reasks: int = 2


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: str
    expected: str | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state` is the local folder of the working state where `path` is a bucket."""

    path: str | None = None
    single_file: bool = True
    raw: bool = False
    state: str | None = None


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job. The field names are the TOML tables of contract.md §5; from Python a table may be given as a dict:
    `Job(input={"path": "rows.jsonl"}, endpoint={"base_url": "embedded:", "model": "m"})`.
    """

    input: Input = Input()
    prompt: Prompt = Prompt()
    endpoint: Endpoint = Endpoint()
    params: dict[str, Any] = {}
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    prices: dict[str, Price] = {}
    sweep: dict[str, list[Any]] = {}
    variant: list[dict[str, Any]] = []
    samples: int = 1
    parse: Parse | None = None
    score: list[Score] = []
    output: Output = Output()
    reuse: list[str] = []

    def __post_init__(self) -> None:
        tables = ("input", "prompt", "endpoint", "limits", "retry", "timeouts", "parse", "output")
        given = {name: getattr(self, name) for name in tables if isinstance(getattr(self, name), dict)}
        if any(isinstance(price, dict) for price in self.prices.values()):
            given["prices"] = self.prices
        if any(isinstance(score, dict) for score in self.score):
            given["score"] = self.score
        if given:
            built = from_table(_plain(given))
            for name in given:
                msgspec.structs.force_setattr(self, name, getattr(built, name))


def load(path: str) -> Job:
    """Read a job file. Raises JobError with file:line where the text or a key is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise JobError(f"{path}: cannot read the job file: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: the job file is not UTF-8 (byte {error.start})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise JobError(f"{where}: not valid TOML: {error}") from None
    return from_table(table, where=path, text=text)


def from_table(table: dict[str, Any], *, where: str = "job", text: str = "") -> Job:
    """Build a job from a dict of tables. `where` and `text` name the source in messages."""
    endpoint = table.get("endpoint")
    if isinstance(endpoint, list):
        if len(endpoint) != 1:
            raise JobError(f"{where}: several [[endpoint]] (a pool) are not yet supported; name one endpoint")
        table = {**table, "endpoint": endpoint[0]}
    _refuse_unknown(table, Job, (), where, text)
    job = _converted(table, where, text)
    refuse(job, where)
    return job


def refuse(job: Job, where: str = "job") -> None:
    """Raise JobError for values out of range and for keys whose work is not there yet (never ignored)."""
    limits = job.limits
    ranges: tuple[tuple[str, Any, float], ...] = (
        ("samples", job.samples, 1),
        ("limits.concurrency", 1 if limits.concurrency == "auto" else limits.concurrency, 1),
        ("limits.requests_per_minute", limits.requests_per_minute, 1e-9),
        ("limits.tokens_per_minute", limits.tokens_per_minute, 1e-9),
        ("retry.max_attempts", job.retry.max_attempts, 1),
        ("retry.max_wait_s", job.retry.max_wait_s, 0),
        ("input.limit", job.input.limit, 0),
        *(
            (f"timeouts.{name}", getattr(job.timeouts, name), 1e-3)
            for name in Timeouts.__struct_fields__
            if name != "drain"
        ),
        ("timeouts.drain", job.timeouts.drain, 0),
    )
    for key, value, least in ranges:
        if value is not None and not value >= least:
            raise JobError(f"{where}: {key} = {value}: must be {'above 0' if 0 < least < 1 else f'at least {least}'}")
    for key in ("max_completion_tokens", "max_tokens"):
        most = job.params.get(key)
        if isinstance(most, int) and limits.tokens_per_minute is not None and most > limits.tokens_per_minute:
            raise JobError(
                f"{where}: params.{key} = {most} is more than limits.tokens_per_minute = {limits.tokens_per_minute:g}: no "
                "request would ever fit; lower the one or raise the other"
            )
    for model, price in job.prices.items():
        if min(price.input, price.output, price.cached_input or 0.0) < 0:
            raise JobError(f'{where}: prices."{model}": a price is below 0')
    later = {
        "parse": job.parse is not None,
        "score": bool(job.score),
        'endpoint.mode = "batch"': job.endpoint.mode == "batch",
        "limits.budget_usd (--budget)": limits.budget_usd is not None,
        'limits.concurrency = "auto"': limits.concurrency == "auto",
    }
    for key, used in later.items():
        if used:
            raise JobError(f"{where}: {key} is understood but not yet supported; leave it out")


def merged(job: Job, changes: dict[str, Any], where: str = "job") -> Job:
    """The job with dotted keys replaced: {"limits.concurrency": 8, "params": {"temperature": 0}}. A dict is merged, a path
    becomes text. Raises JobError for a value of a wrong type.
    """
    fields: dict[str, Any] = {}
    for key, value in changes.items():
        if value is None:
            continue
        name, _, inner = key.partition(".")
        if inner or isinstance(value, dict):
            table, more = fields.get(name, getattr(job, name)), {inner: value} if inner else value
            fields[name] = {**table, **more} if isinstance(table, dict) else msgspec.structs.replace(table, **more)
        else:
            fields[name] = value
    return _converted(_plain(msgspec.structs.replace(job, **fields), where), where)


def _converted(table: Any, where: str, text: str = "") -> Job:
    try:
        return msgspec.convert(table, Job)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$.")
        key = at.rstrip("`") or "the job"
        raise JobError(f"{_at(where, text, key.split('.'))}: {key}: {message[0].lower()}{message[1:]}") from None


def _plain(value: Any, where: str = "job") -> Any:
    """A value made of what TOML has; a path becomes text."""
    try:
        return msgspec.to_builtins(value, enc_hook=os.fspath)
    except TypeError as error:
        raise JobError(f"{where}: a setting has a value that no job file could hold: {error}") from None


def _refuse_unknown(value: Any, kind: Any, path: tuple[str, ...], where: str, text: str) -> None:
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        if isinstance(option, type) and issubclass(option, msgspec.Struct) and isinstance(value, dict):
            hints = typing.get_type_hints(option)
            for key, inner in value.items():
                if key not in hints:
                    near = difflib.get_close_matches(key, hints, 1, 0.5)
                    mend = f"did you mean `{near[0]}`?" if near else f"valid keys: {', '.join(hints)}"
                    at = _at(where, text, [*path, key])
                    raise JobError(f"{at}: unknown key `{'.'.join([*path, key])}`; {mend}")
                _refuse_unknown(inner, hints[key], (*path, key), where, text)
        elif typing.get_origin(option) in (list, dict) and isinstance(value, list | dict):
            inner_kind = typing.get_args(option)[-1]
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in pairs:
                _refuse_unknown(inner, inner_kind, (*path, str(key)), where, text)


def _at(where: str, text: str, path: list[str]) -> str:
    """file:line of a key, found in the TOML text: the last table header on its path, then the key itself."""
    lines, line = text.splitlines(), 0
    for name in path:
        name = re.escape(name.partition("[")[0])
        pattern = re.compile(rf'^\s*(\[+\s*(?:[\w".-]+\.)?"?{name}"?\s*[\].]|"?{name}"?\s*[=.])')
        line = next((n for n, found in enumerate(lines[line:], line) if pattern.match(found)), line)
    return f"{where}:{line + 1}" if lines else where
