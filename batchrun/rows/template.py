"""Prompts from templates: Jinja2, sandboxed and strict, so that a missing column is an error that names itself.

The only owner of jinja2. A template never sees anything but its row's columns, and the files that they name where it
says so: `{{ path | data_url }}`, `{{ path | base64 }}`.
"""

from collections.abc import Callable
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchrun.errors import JobError
from batchrun.rows.media import MediaError, as_base64, data_url

Render = Callable[[dict[str, Any]], Any]


class TemplateError(Exception):
    """A row that a template can't be filled from; the message says what is missing."""


_environment = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
)
_FILE_FILTERS = {"data_url": data_url, "base64": as_base64}
_environment.filters.update(_FILE_FILTERS)


def compile_text(text: str, name: str) -> Render:
    """A function row → str. Raises JobError where the template itself is wrong, naming it and the line."""
    try:
        template = _environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise JobError(f"{name}, line {error.lineno} of the template: {error.message}") from None

    def render(row: dict[str, Any]) -> str:
        try:
            return template.render(row)
        except jinja2.UndefinedError as error:
            columns = ", ".join(row) or "none"
            raise TemplateError(f"{name}: {error.message}; the row's columns are: {columns}") from None
        except MediaError as error:
            raise TemplateError(f"{name}: {error}") from None
        except Exception as error:  # noqa: BLE001 - a filter may raise anything on a row's value
            raise TemplateError(f"{name}: {type(error).__name__}: {error}") from None

    return render


def compile_tree(value: Any, name: str) -> Render:
    """The same for nested lists and dicts: every string leaf is a template."""
    if isinstance(value, str):
        return compile_text(value, name)
    if isinstance(value, dict):
        fields = {key: compile_tree(inner, f"{name}.{key}") for key, inner in value.items()}
        return lambda row: {key: render(row) for key, render in fields.items()}
    if isinstance(value, list):
        items = [compile_tree(inner, f"{name}[{number}]") for number, inner in enumerate(value)]
        return lambda row: [render(row) for render in items]
    return lambda _row: value


def reads_files(value: Any) -> bool:
    """Whether a text, or any text in nested lists and dicts, is a template that puts a local file into its prompt."""
    if isinstance(value, str):
        found = _environment.parse(value).find_all(nodes.Filter)
        return any(one.name in _FILE_FILTERS for one in found)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(reads_files, inner))


def uses_columns(value: Any) -> bool:
    """Whether a text, or any text in nested lists and dicts, is a template that takes anything from its row."""
    if isinstance(value, str):
        return bool(meta.find_undeclared_variables(_environment.parse(value)))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(uses_columns, inner))
