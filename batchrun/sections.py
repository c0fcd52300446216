"""The tables of a job file as frozen records, each key's default with it (contract.md §5).

A name in backticks in a docstring is a key. Ranges are checked in job.py: a value out of its range is a JobError that says so.
"""

from typing import Any, Literal

import msgspec


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
