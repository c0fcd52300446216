"""The job: what to run, as one frozen record of the tables of a job file (contract.md §5).

`load` reads a TOML file, `from_table` a plain dict; both refuse unknown keys and wrong types by name, with the nearest
valid key, and values out of their range. Nothing here touches the endpoint, the input or the environment.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.sections import (
    Endpoint,
    Input,
    Limits,
    Metrics,
    Notify,
    Output,
    Parse,
    Price,
    Prompt,
    Retry,
    Score,
    Timeouts,
)
from batchrun.tables import converted, plain, refuse_unknown


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job. The field names are the TOML tables of contract.md §5; from Python a table may be given as a dict:
    `Job(input={"path": "rows.jsonl"}, endpoint={"base_url": "embedded:", "model": "m"})`. Raises JobError for a dict that no
    table can be made from.

    `params`   sent with every request as they are; a row's own override them
    `prices`   by model, in place of the built-in ones
    `sweep`    values by parameter: one variant for each combination
    `variant`  variants by hand: a name, parameters, `system`, `user` or `messages`
    `samples`  completions for each row and variant, at least 1
    `reuse`    run directories whose answers to the same requests are taken over
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
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    reuse: list[str] = []

    def __post_init__(self) -> None:
        tables = ("input", "prompt", "endpoint", "limits", "retry", "timeouts", "parse", "output", "notify", "metrics")
        given = {name: getattr(self, name) for name in tables if isinstance(getattr(self, name), dict)}
        if any(isinstance(price, dict) for price in self.prices.values()):
            given["prices"] = self.prices
        if any(isinstance(score, dict) for score in self.score):
            given["score"] = self.score
        if given:
            built = from_table(plain(given))
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
    refuse_unknown(table, Job, where, text)
    job = converted(table, Job, where, text)
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
        ("notify.paused_s", job.notify.paused_s, 0),
        ("metrics.share", job.metrics.share, 0),
        ("retry.longest_wait_s", job.retry.longest_wait_s, 0),
        ("input.limit", job.input.limit, 0),
        ("input.sample", job.input.sample, 1),
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
        stated = (price.input, price.output, price.cached_input, price.cache_write, price.cache_write_1h)
        if not all(value is None or 0 <= value < float("inf") for value in (*stated, *price.tiers.values())):
            raise JobError(f'{where}: prices."{model}": a price is below 0, or no number')
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


def may_be_secret(name: str) -> bool:
    """Whether what is given as a variable's name looks like the secret itself, and must not be shown."""
    is_name = re.fullmatch(r"[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*", name) is not None
    return not is_name or len(name) > 48 or sum(char.isdigit() for char in name) > 4


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
    return converted(plain(msgspec.structs.replace(job, **fields), where), Job, where)
