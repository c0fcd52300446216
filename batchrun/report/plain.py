"""Columns of results as other formats can say them: JSON text as the JSON that it is, times as RFC 3339, and nothing bent.

JSON has no infinity: it is written as a string, `"Infinity"` or `"-Infinity"`, as JSON of protocol buffers is, and a NaN,
which stands for a missing value, as null.
"""

import base64
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from batchrun.rows.columns import MARK
from batchrun.rows.values import to_python

_BATCH_ROWS = 512
_FORMULA = ("=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def rows(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a table, each a dict of values that `line` and `cell` can write."""
    for start in range(0, table.num_rows, _BATCH_ROWS):
        part = table.slice(start, _BATCH_ROWS).combine_chunks()
        columns = [_values(field, column) for field, column in zip(part.schema, part.columns, strict=True)]
        for row in zip(*columns, strict=True):
            yield dict(zip(part.column_names, row, strict=True))


def line(row: dict[str, Any]) -> bytes:
    """A row as one line of JSON."""
    return _encode(row) + b"\n"


def cell(value: Any) -> Any:
    """A value as a cell of CSV: nested ones as JSON, a string of a mixed column as it is, nothing for null."""
    if isinstance(value, msgspec.Raw):
        held = msgspec.json.decode(value)
        return held if isinstance(held, str) else bytes(value).decode()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return _encode(value).decode() if isinstance(value, dict | list) else value


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe in front."""
    text = cell(value)
    return f"'{text}" if isinstance(text, str) and text.lstrip().startswith(_FORMULA) else text


def _values(field: Any, column: Any) -> list[Any]:
    array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if MARK in (field.metadata or {}):
        return [None if text is None else msgspec.Raw(text.encode()) for text in array.to_pylist()]
    values = to_python(array)
    if pa.types.is_timestamp(field.type):
        return [None if text is None else _rfc3339(text) for text in values]
    return [_finite(value) for value in values] if _has_floats(field.type) else values


def _rfc3339(text: str) -> str:
    whole = text.replace(" ", "T")
    return f"{whole.removesuffix('+00:00')}Z" if whole.endswith("+00:00") else whole


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return value


def _has_floats(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_floats(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_floats(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))
