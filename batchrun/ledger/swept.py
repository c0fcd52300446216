"""The parameters in which the variants of a job differ, as columns of its results: `param_NAME`, typed as given."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from batchrun.records import Result

_INT64 = 1 << 63


class Swept(msgspec.Struct, frozen=True):
    """One column: an arrow field, and its value for each variant."""

    field: Any
    values: dict[str, Any]


def swept(differing: Mapping[str, Mapping[str, Any]]) -> tuple[Swept, ...]:
    """A column for each parameter, of its values by variant; values of unlike types are kept as JSON text."""
    return tuple(_column(f"param_{name}", dict(values)) for name, values in differing.items())


def fill(column: Swept, results: Sequence[Result]) -> Any:
    """The column's array for some results."""
    return pa.array([column.values.get(one.variant) for one in results], column.field.type)


def _column(name: str, values: dict[str, Any]) -> Swept:
    given = [value for value in values.values() if value is not None]
    kinds = {type(value) for value in given}
    small = all(-_INT64 <= value < _INT64 for value in given if type(value) is int)
    if kinds == {bool}:
        return Swept(pa.field(name, pa.bool_()), values)
    if kinds == {int} and small:
        return Swept(pa.field(name, pa.int64()), values)
    if kinds and kinds <= {int, float} and small:
        numbers = {key: None if value is None else float(value) for key, value in values.items()}
        return Swept(pa.field(name, pa.float64()), numbers)
    if kinds <= {str}:
        return Swept(pa.field(name, pa.string()), values)
    texts = {
        key: value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in values.items()
    }
    return Swept(pa.field(name, pa.string()), texts)
