"""Values on their way into a request's body: numbers stay numbers, and what only a schema put there goes.

JSON's own values pass as they are, their nulls too. A column of JSON text is JSON. Parquet's need a look: a list of structs
gives every element every field, a DECIMAL is a number, bytes are nothing that JSON has.
"""

import math
from decimal import Decimal
from typing import Any

from batchrun.rows.jsonl import decoded

_LONGEST = 1000


class RowError(Exception):
    """A row that can't become a request; the message says why, in no more than a few lines."""

    def __init__(self, message: str) -> None:
        short = message if len(message) <= _LONGEST else f"{message[: _LONGEST - 200]} … {message[-150:]}"
        super().__init__(short)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none in a table: a null, or the NaN that pandas writes for one."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any, name: str) -> Any:
    """A value of a Parquet column as JSON has it, without the nulls that a schema may have filled in. Raises RowError."""
    if isinstance(value, dict):
        return {key: plain(inner, name) for key, inner in value.items() if not is_missing(inner)}
    if isinstance(value, list):
        return [plain(inner, name) for inner in value]
    if isinstance(value, Decimal):
        return _number(value, name)
    if isinstance(value, bytes):
        raise RowError(
            f"`{name}` holds bytes, which JSON has not; give a template that takes them: | data_url or | base64"
        )
    if isinstance(value, float) and math.isinf(value):
        raise RowError(f"`{name}` holds {value}, which JSON has not")
    return value


def _number(value: Decimal, name: str) -> Any:
    """The shortest number that is just this decimal."""
    if not value.is_finite():
        raise RowError(f"`{name}` holds {value}, which JSON has not")
    if value == value.to_integral_value():
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else value


def from_json(text: str, name: str) -> Any:
    """What a column of JSON text holds. Raises RowError."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise RowError(f"`{name}` holds half a character, which no UTF-8 can carry") from None
    value, error = decoded(encoded)
    if error is not None:
        raise RowError(f"`{name}` is a string but not JSON: {error.removeprefix('not valid JSON: ')}")
    return value
