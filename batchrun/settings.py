"""The settings that override a job, in one table: the command line's flags, the Python face's keywords (contract.md §2).

A field of `Settings` is a row: its name is the keyword and, with dashes, the flag; its type holds for both; `Setting` names
the key of the job that it sets, and says in a sentence what it is. Nothing here reads a job or a command line.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, TypeVar, get_args, get_type_hints

from batchrun.job import Job

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Setting(NamedTuple):
    """What a setting sets. `flag` is its name on the command line where that isn't the keyword's. The default is not said
    in `help`: it is taken from the job's tables.
    """

    key: str
    help: str
    metavar: str | None = None
    flag: str | None = None


class Settings(TypedDict, total=False):
    """Keywords of `batchrun.run` and its relatives; None is as good as not given."""

    output: Annotated[
        str | Path | None, Setting("output.path", "The run directory (runs/NAME).", "DIR", flag="-o/--output")
    ]
    base_url: Annotated[
        str | None, Setting("endpoint.base_url", "The endpoint; `embedded:` needs no key and no network.", "URL")
    ]
    model: Annotated[str | None, Setting("endpoint.model", "The model to ask.")]
    api_key_env: Annotated[
        str | None,
        Setting("endpoint.api_key_env", "The name of the variable that holds the key (OPENAI_API_KEY).", "NAME"),
    ]
    system: Annotated[str | None, Setting("prompt.system", "System prompt, a Jinja2 template, or @FILE.")]
    prompt: Annotated[
        str | None, Setting("prompt.user", "User prompt, a Jinja2 template over the row's columns, or @FILE.")
    ]
    prompt_file: Annotated[
        str | Path | None,
        Setting("prompt.user", "The file that holds the user prompt; --prompt @FILE is the same.", "FILE"),
    ]
    same_prompt: Annotated[
        bool | None, Setting("prompt.same", "Allow a prompt that is the same for every row.", flag="--same-prompt")
    ]
    params: Annotated[
        dict[str, Any] | None,
        Setting("params", "Request parameters, e.g. temperature=0.5.", "KEY=JSON", flag="--param"),
    ]
    stream: Annotated[bool | None, Setting("params.stream", "Ask for a streamed answer.", flag="--stream/--no-stream")]
    samples: Annotated[int | None, Setting("samples", "Completions for each row and variant.", "N")]
    concurrency: Annotated[int | Literal["auto"] | None, Setting("limits.concurrency", "Requests in flight.", "N|auto")]
    rpm: Annotated[float | None, Setting("limits.requests_per_minute", "Requests per minute, at most.", "N")]
    tpm: Annotated[float | None, Setting("limits.tokens_per_minute", "Tokens per minute, at most.", "N")]
    budget: Annotated[float | None, Setting("limits.budget_usd", "USD, at most (not yet supported).", "USD")]
    max_attempts: Annotated[int | None, Setting("retry.max_attempts", "Attempts for each request.", "N")]
    unanswered: Annotated[str | None, Setting("retry.unanswered", "Last rows that get no answer: stop, fail.", "WHAT")]
    timeout: Annotated[float | None, Setting("timeouts.total", "Seconds for a whole answer.", "SECONDS")]
    on_end: Annotated[
        str | None, Setting("notify.on_end", "A command that is told of the end, as JSON on stdin.", "CMD")
    ]
    limit: Annotated[int | None, Setting("input.limit", "Only the first N rows.", "N")]
    where: Annotated[
        str | None, Setting("input.where", "Only rows that a condition on columns holds for: 'tag = \"hard\"'.", "EXPR")
    ]
    sample: Annotated[int | None, Setting("input.sample", "Only N rows, at random, for a trial.", "N")]
    seed: Annotated[int | None, Setting("input.seed", "Picks a different random sample.", "N")]
    engine: Annotated[Literal["local", "ray"] | None, Setting("engine", "Where to run (local).", "local|ray")]


class Row(NamedTuple):
    """One row of the table, read from `Settings`. `type` is as it is annotated."""

    name: str
    type: Any
    key: str
    help: str
    metavar: str | None
    flag: str


def _rows() -> dict[str, Row]:
    rows = {}
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kind, setting = get_args(hint)
        flag = setting.flag or f"--{name.replace('_', '-')}"
        rows[name] = Row(name, kind, setting.key, setting.help + _default(setting.key), setting.metavar, flag)
    return rows


def _default(key: str) -> str:
    """How a job's own number for a key is shown behind its help."""
    table, _, field = key.partition(".")
    value = getattr(Job(), table, None)
    value = getattr(value, field, None) if field else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f" [default: {value:g}]" if is_number else ""


TABLE: dict[str, Row] = _rows()


def explicit(function: _Function) -> _Function:
    """Show the keywords of `**settings: Unpack[Settings]` one by one wherever a signature or a docstring is read: in
    help(), in a notebook's completion. An editor knows them by the type.
    """
    signature = inspect.signature(function)
    kept = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    own = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(row.name, own, default=None, annotation=row.type) for row in TABLE.values()]
    function.__dict__["__signature__"] = signature.replace(parameters=[*kept, *added])
    lines = "\n".join(f"    {row.name:<14} {row.help}" for row in TABLE.values())
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nSettings; each overrides the job's:\n{lines}\n"
    return function
