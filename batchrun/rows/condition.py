"""Conditions on a row's columns: `--where 'tag = "hard" and n > 3'`. Expressions of the templates' world, and as safe.

A column that a row lacks is null there, and what compares with null does not hold. Also understood are a single `=`,
`<>`, AND, OR, NOT, IN, IS NULL in capitals, and `` `review text` `` for a column whose name is no plain word.
"""

import re
from collections.abc import Iterable
from typing import Any

import jinja2

from batchrun.errors import JobError
from batchrun.rows.sandbox import ROW, WholeRow, compiled, environment, seen

_EXAMPLE = "write for example: tag = \"hard\" and n > 3, or text | length < 500, or lang in ['en', 'de']"
_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | `(?P<column>[^`]+)`
    | (?P<equal>(?<![=!<>])=(?!=))
    | (?P<unequal><>)
    | (?P<null>\b(?:null|NULL)\b)
    | (?P<word>\b(?:AND|OR|NOT|IN|IS|TRUE|FALSE)\b)""",
    re.VERBOSE,
)


class Condition:
    """`columns` are those that it reads, None for all. Raises JobError where the text is no condition."""

    def __init__(self, text: str) -> None:
        source = _TOKEN.sub(_spelt, text)
        try:
            self._holds = environment.compile_expression(source, undefined_to_none=False)
            self.columns = compiled(f"{{{{ ({source}) }}}}")[1]
        except (jinja2.TemplateSyntaxError, RecursionError) as error:
            reason = error.message if isinstance(error, jinja2.TemplateSyntaxError) else "nested too deeply"
            raise JobError(f"where: {text!r} is no condition: {reason}; {_EXAMPLE}") from None
        self._text = text
        self._names = (self.columns or frozenset()) - {ROW}
        self._unseen = set(self._names)
        self._last: dict[str, Any] | None = None

    def holds(self, row: dict[str, Any], where: str) -> bool:
        """Whether it holds for a row; `where` names the row. Raises JobError where it can't be told."""
        self._last = row
        if self._unseen:
            self._unseen.difference_update(row)
        values = {name: seen(row.get(name), name) for name in (row if self.columns is None else self._names)}
        try:
            return bool(self._holds({ROW: WholeRow(values), **values}))
        except jinja2.UndefinedError:  # of null, or of what null has none of
            return False
        except Exception as error:  # noqa: BLE001 - an operator or a filter may raise anything on a row's value
            raise JobError(f"{where}: where {self._text!r}: {error}") from None

    def check_seen(self, names: Iterable[str] | None) -> None:
        """After all rows: raise JobError for a column that none of them has. `names` are the columns where all rows have the
        same ones.
        """
        unseen = self._unseen.difference(names or ())
        if unseen and self._last is not None:
            missing = ", ".join(f"`{name}`" for name in sorted(unseen))
            there = ", ".join(names or self._last) or "none"
            raise JobError(f"where {self._text!r}: no row has a column {missing}; columns: {there}")


def _spelt(token: re.Match[str]) -> str:
    """A token as Jinja writes it."""
    text = token[0]
    if token["text"]:
        return text
    if token["column"]:
        return f"{ROW}[{token['column']!r}]"
    return {"equal": "==", "unequal": "!=", "null": "none"}.get(token.lastgroup or "", text.lower())
