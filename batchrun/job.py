"""The job: what to run, as frozen records with every default in one place (contract.md §5).

`load` reads a TOML file, `from_table` a plain dict; both refuse unknown keys and wrong types by name, with the nearest
valid key. A name in backticks in a table's docstring is a key; a value out of its range is a JobError that says so.
Nothing here touches the endpoint, the input or the environment.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from batchrun.errors import JobError
from batchrun.tables import converted, plain, refuse_unknown


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[input]` (contract.md §4): what is read.

    `path`        a file, a folder, a glob or a URL; relative to the working directory
    `id`          the column that names a row; None: `custom_id`, else `id`, else the row's number
    `limit`       only so many rows from the beginning, at least 0; None: all
    `where`       only rows that it holds for, a condition on columns: `tag = "hard" and n > 3`; it comes before `limit`
    `sample`      only so many rows, at random, at least 1; `seed` chooses others
    `on_bad_row`  a malformed line stops the run before anything is sent, or becomes a failed result
    """

    path: str | None = None
    id: str | None = None
    limit: int | None = None
    where: str | None = None
    sample: int | None = None
    seed: int = 0
    on_bad_row: Literal["stop", "fail"] = "stop"


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[prompt]` (contract.md §5): Jinja2 templates over a row's columns, strict: a missing column is the row's error.

    `messages` are whole messages in place of `system` and `user`, each text in them a template. `same` allows a prompt that
    takes nothing from its row, so that all rows ask the same.
    """

    system: str | None = None
    user: str | None = None
    messages: list[dict[str, Any]] | None = None
    same: bool = False


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[endpoint]` (contract.md §5, endpoint.md §1): whom to ask.

    `base_url`     root, `/v1` or the whole path; `embedded:` is an endpoint of its own for the length of the run
    `api_key_env`  the variable that holds the key: JobError where it is named and not set; None: OPENAI_API_KEY, if set
    `model`        sent with every request that names none itself
    `mode`         direct requests, or the provider's Batch API
    `headers`      sent with every request, redacted like a key; `${NAME}` in a value is that variable's
    `name`         what results call it; None: its host
    `weight`       its share of the requests in a pool, above 0
    """

    base_url: str | None = None
    api_key_env: str | None = None
    model: str | None = None
    mode: Literal["chat", "batch"] = "chat"
    headers: dict[str, str] = {}
    name: str | None = None
    weight: float = 1.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits]` (contract.md §5): what is kept whatever the endpoint would allow.

    `concurrency`          requests in flight, at least 1
    `requests_per_minute`  above 0; None: what the endpoint states, if anything
    `tokens_per_minute`    of prompts and answers together, above 0; None as above
    `budget_usd`           USD that the whole run may cost at most
    """

    concurrency: int | Literal["auto"] = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[retry]` (endpoint.md §4–5): how a request is asked again.

    `max_attempts`  for one request, at least 1; attempts that the endpoint refused for its rate or in an outage don't count
    `max_wait_s`    seconds, at least 0: the longest pause of our own between two attempts; a stated wait may be longer
    `empty`         what an answer with nothing in it is: worth asking twice more, a failure, or an answer
    `unanswered`    what becomes of the last rows, where nobody is answered and nothing is left to tell whether the endpoint is
                    down: the run stops and they stay to be done, or they fail
    `longest_wait_s`  seconds, at least 0: a longer wait that the endpoint states ends the run; None: none does
    """

    max_attempts: int = 8
    max_wait_s: float = 60.0
    empty: Literal["retry", "fail", "ok"] = "retry"
    unanswered: Literal["stop", "fail"] = "stop"
    longest_wait_s: float | None = None


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[timeouts]` (endpoint.md §5), all in seconds, each at least 0.001, `drain` at least 0.

    `connect`         until a connection is there, its name resolved and its TLS agreed
    `first_token`     from sending to the first content of a stream
    `between_tokens`  from content to content
    `total`           from sending to the end, streamed or not
    `drain`           the grace for what is in flight when a run is told to stop
    """

    connect: float = 10.0
    first_token: float = 120.0
    between_tokens: float = 60.0
    total: float = 600.0
    drain: float = 10.0


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[prices."MODEL"]` (contract.md §5): USD per million tokens, none below 0.

    `input` and `output` are the prompt's and the answer's; `cached_input` is that of a prompt's cached part and `cache_write`
    that of what is written to a cache, None: as `input`; `cache_write_1h`, what is written for an hour, None: as
    `cache_write`. `tiers` are factors for service tiers, such as `{flex = 0.5}`; of another tier the price is as stated.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    tiers: dict[str, float] = {}


class Parse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[parse]` (contract.md §5): what an answer is to be read as; not yet supported.

    One of `schema` (a JSON Schema), `labels` (one of these words) and `kind`. `max_reasks` is how often an answer that does
    not hold is asked for again, each time paid.
    """

    schema: dict[str, Any] | None = None
    labels: list[str] | None = None
    kind: str | None = None
    max_reasks: int = 2


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[score]]` (contract.md §5): one column `score_NAME` of numbers; not yet supported.

    `name` ends the column's name, `kind` is exact, contains, regex, numeric, json or `module:function`, `expected` a template
    over the row's columns.
    """

    name: str
    kind: str
    expected: str | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[output]` (contract.md §5, §6): where the run is kept, and what of it.

    `path`         the run directory, a folder or a bucket's URL; None: `runs/NAME`, after the source
    `single_file`  one results.parquet; else the parts stay as they are
    `raw`          keep the body of every plain answer, in the column `response`
    `prompt`       keep the messages as sent, as JSON, in the column `prompt`
    `split_think`  move the reasoning at the head of a text (`<think>…</think>`) into the column `reasoning`
    `state`        the local folder of the working state where `path` is a bucket; None: one below the user's state folder
    """

    path: str | None = None
    single_file: bool = True
    raw: bool = False
    prompt: bool = False
    split_think: bool = False
    state: str | None = None


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[notify]` (contract.md §5): who is told that a run is complete, has stopped or is paused for long.

    `command`   run by the shell, with the news as JSON on stdin
    `url`       gets the news as a JSON POST; `${NAME}` is that variable's value
    `on_end`    a command that is told of the end alone (`--on-end`)
    `paused_s`  so many seconds of a pause are long, at least 0
    """

    command: str | None = None
    url: str | None = None
    on_end: str | None = None
    paused_s: float = 600.0


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[metrics]` (contract.md §5): how a run is watched from elsewhere. Neither ever fails a run; prompts and answers are in
    neither.

    `listen`  host:port where Prometheus finds the numbers of a call, at /metrics, for as long as it lasts (extra `metrics`)
    `traces`  the base URL of an OpenTelemetry collector (OTLP over HTTP) that gets a span for a request, as the conventions
              for generative AI have it (extra `otel`)
    `share`   of how many requests it gets one, from 0 to 1
    """

    listen: str | None = None
    traces: str | None = None
    share: float = 0.01


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
