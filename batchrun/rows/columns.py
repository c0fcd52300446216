"""The types of JSONL columns, learnt while scanning, and the arrow columns of a shard built from them.

A column keeps a type only where every value has it; a mixed one becomes JSON text, so that nothing is lost or bent.
"""

from typing import Any

import msgspec
import pyarrow as pa

_JSON = {b"batchrun": b"json"}
_INT64 = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)
_WIDEST_STRUCT = 64
_encode = msgspec.json.encode


class ColumnTypes:
    """Collects types shard by shard; `schema` is the outcome. Column order is that of first appearance."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType | None] = {}
        self._wide: set[str] = set()  # columns with an int that no double holds exactly

    def see(self, records: list[dict[str, Any]]) -> None:
        names = dict.fromkeys(name for record in records for name in record)
        for name in names:
            values = [record.get(name) for record in records]
            seen = _type(values)
            if seen == pa.int64() and any(value is not None and value not in _EXACT for value in values):
                self._wide.add(name)
            if name not in self._types:
                self._types[name] = seen
            else:
                self._types[name] = _joined(self._types[name], seen)

    def schema(self) -> pa.Schema:
        fields = []
        for name, kind in self._types.items():
            bent = name in self._wide and kind == pa.float64()
            if kind is None or bent or not _storable(kind):
                fields.append(pa.field(name, pa.string(), metadata=_JSON))
            else:
                fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
        return pa.schema(fields)


def build(records: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """The input columns of a shard, one row a record."""
    columns = []
    for field in schema:
        values = [record.get(field.name) for record in records]
        if field.metadata == _JSON:
            values = [None if value is None else _encode(value).decode() for value in values]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def _type(values: list[Any]) -> pa.DataType | None:
    """The arrow type of all values, or None where they have none in common. Plain columns don't ask arrow."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.null()
    if kinds == {str}:
        return pa.string()
    if kinds == {bool}:
        return pa.bool_()
    if kinds <= {int, float}:
        room = _EXACT if float in kinds else _INT64
        if any(type(value) is int and value not in room for value in values):
            return None
        return pa.float64() if float in kinds else pa.int64()
    if len(kinds) > 1:
        return None
    try:
        # arrow infers a type from some of the values; only building the column shows that all of them fit
        return pa.array(values, pa.infer_type(values)).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None


def _joined(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None or one == other:
        return one if one == other else None
    if pa.types.is_nested(one) and {pa.int64(), pa.float64()} <= {*_leaves(one), *_leaves(other)}:
        return None  # an int inside could be bent into a double
    try:
        pair = [pa.schema([("c", one)]), pa.schema([("c", other)])]
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _leaves(kind: pa.DataType) -> list[pa.DataType]:
    if not pa.types.is_nested(kind):
        return [kind]
    return [leaf for number in range(kind.num_fields) for leaf in _leaves(kind.field(number).type)]


def _storable(kind: pa.DataType) -> bool:
    """Parquet has no empty struct; a struct of very many fields is a map in disguise and stays text."""
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return 0 < len(fields) <= _WIDEST_STRUCT and all(_storable(field.type) for field in fields)
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    return True
