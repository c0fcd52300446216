"""Prompts from templates: a text, or nested lists and objects of texts, filled from a row's columns.

A template never sees anything but its row's columns, and the files that they name where it says so:
`{{ path | data_url }}`, `{{ path | base64 }}`. What may stand in one is sandbox.py's.
"""

from collections.abc import Callable, Collection
from typing import Any

import jinja2
from jinja2 import nodes

from batchrun.errors import JobError
from batchrun.rows.media import MediaError
from batchrun.rows.sandbox import (
    FILE_FILTERS,
    HIDDEN,
    ROW,
    NotDataError,
    NoTextError,
    WholeRow,
    compiled,
    environment,
    seen,
)

_SPELLING = "a column whose name is no plain word is written {{ row['review text'] }}"
_MOST_NAMED = 30


class TemplateError(Exception):
    """A row that a template can't be filled from; the message says what is missing."""


class Render:
    """A filled text or tree for a row. `columns` are those that it reads, None for all of them."""

    def __init__(self, fill: Callable[[dict[str, Any], Collection[str]], Any], columns: frozenset[str] | None) -> None:
        self._fill = fill
        self.columns = columns

    def __call__(self, row: dict[str, Any], names: Collection[str] | None = None) -> Any:
        """`names` are the row's columns where `row` holds only some. Raises TemplateError."""
        return self._fill(row, row if names is None else names)


def compile_text(text: str, name: str) -> Render:
    """A function row → str. Raises JobError where the template itself is wrong, naming it and the line."""
    try:
        template, reads = compiled(text)
    except jinja2.TemplateSyntaxError as error:
        raise JobError(f"{name}, line {error.lineno} of the template: {error.message} ({_SPELLING})") from None
    except RecursionError:
        raise JobError(f"{name}: the template is nested too deeply") from None

    def fill(row: dict[str, Any], names: Collection[str]) -> str:
        try:
            return str(template.render(_context(row, reads)))
        except (MediaError, NotDataError, NoTextError) as error:
            raise TemplateError(f"{name}: {error}") from None
        except jinja2.UndefinedError as error:
            raise TemplateError(f"{name}: {error.message}; {columns_text(names)}") from None
        except Exception as error:  # noqa: BLE001 - a filter may raise anything on a row's value
            raise TemplateError(f"{name}: {type(error).__name__}: {error}") from None

    return Render(fill, reads)


def compile_tree(value: Any, name: str) -> Render:
    """The same for nested lists and dicts: every string leaf is a template."""
    if isinstance(value, str):
        return compile_text(value, name)
    if isinstance(value, dict):
        fields = {key: compile_tree(inner, f"{name}.{key}") for key, inner in value.items()}
        reads = columns_of(fields.values())
        return Render(lambda row, names: {key: render(row, names) for key, render in fields.items()}, reads)
    if isinstance(value, list):
        items = [compile_tree(inner, f"{name}[{number}]") for number, inner in enumerate(value)]
        return Render(lambda row, names: [render(row, names) for render in items], columns_of(items))
    return Render(lambda _row, _names: value, frozenset())


def columns_of(renders: Collection[Render]) -> frozenset[str] | None:
    """The columns that any of them reads, None for all."""
    found: set[str] = set()
    for render in renders:
        if render.columns is None:
            return None
        found |= render.columns
    return frozenset(found)


def reads_files(value: Any) -> bool:
    """Whether a text, or any text in nested lists and dicts, is a template that puts a local file into its prompt."""
    if isinstance(value, str):
        found = environment.parse(value).find_all(nodes.Filter)
        return any(one.name in FILE_FILTERS for one in found)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(reads_files, inner))


def _context(row: dict[str, Any], reads: frozenset[str] | None) -> dict[str, Any]:
    """The names that a template can use: its columns, and `row` where no column is called so."""
    values = {key: seen(value, _spelt(key)) for key, value in row.items() if reads is None or key in reads}
    context: dict[str, Any] = {ROW: WholeRow(values), **values}
    if "self" in values:
        context[HIDDEN + "self"] = values["self"]
    return context


def _spelt(column: str) -> str:
    """How a template writes a column."""
    return column if column.isidentifier() else f"row[{column!r}]"


def columns_text(names: Collection[str]) -> str:
    """What columns a row has, for a message about one that it has not."""
    shown = list(names)[:_MOST_NAMED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    odd = next((name for name in names if not name.isidentifier()), None)
    spelling = f"; write {{{{ row[{odd!r}] }}}} for one whose name is no plain word" if odd is not None else ""
    return f"the row's columns are: {', '.join(shown) or 'none'}{more}{spelling}"
