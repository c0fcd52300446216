"""The types of JSONL columns, learnt while scanning, and the arrow columns of a shard built from them.

A column keeps a type only where every value has it; a mixed one becomes JSON text, so that nothing is lost or bent. So
does one that is too deep, too wide or too empty for a table: the limits stand well inside what pyarrow, pandas, polars and
DuckDB can read, and they hold before anything is built, so that time and memory stay linear in the input's bytes.
"""

from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa

MARK = b"batchrun"
JSON, REST = b"json", b"rest"
"""What MARK says, in a field's metadata, of a column that is JSON text: of each value, or of an object of all rare columns."""
DEEPEST = 16
"""Levels of lists and structs. pyarrow reads no more than 32 of either kind in turn, or 49 lists."""
_MOST_FIELDS = 64
_MOST_LEAVES = 256
"""Of one struct, and of one column: a struct of more is a map in disguise."""
_SPARE_CELLS = 1024
"""How many cells a row may have, over all columns that are mostly empty. A column is, with fewer than one cell in 16 used."""
_DENSE = 16
_MOST_NAMES = 16384
"""Of columns that are told apart while scanning: those that appear after so many others count as rare."""
_INT64 = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)
_REST = "other_columns"
_encode = msgspec.json.encode


class _UnfitError(Exception):
    """The values have no arrow type in common, or none that is worth it."""


class _Place:
    """What was seen in one place: of a column, of a list's items, of a struct's field.

    `slots` is how many values an arrow array of it would hold, missing ones of its struct included; `seen` how many there
    were.
    """

    __slots__ = ("fields", "items", "kinds", "least", "most", "seen")

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.least = self.most = 0
        self.seen = 0
        self.items: _Place | None = None
        self.fields: dict[str, _Place] = {}

    def see(self, values: list[Any], levels: int = DEEPEST) -> None:
        """Take values into account, nulls among them. `levels` are how many may stand below. Raises _UnfitError."""
        kinds = {*map(type, values)} - {type(None)}
        self.seen += len(values)
        self.kinds |= kinds
        if len(self.kinds) > 1 and self.kinds != {int, float}:
            raise _UnfitError
        if int in kinds:
            self._see_ints(values if kinds == {int} else [value for value in values if type(value) is int])
        elif list in kinds or dict in kinds:
            if not levels:
                raise _UnfitError
            if list in kinds:
                self.items = self.items or _Place()
                self.items.see(list(chain.from_iterable(value for value in values if value)), levels - 1)
            else:
                self._see_fields(values, levels - 1)

    def _see_ints(self, values: list[Any]) -> None:
        whole = values if None not in values else [value for value in values if value is not None]
        least, most = min(whole), max(whole)
        self.least, self.most = min(self.least, least), max(self.most, most)
        if self.least not in _INT64 or self.most not in _INT64:
            raise _UnfitError

    def _see_fields(self, values: list[Any], levels: int) -> None:
        for name, found in gathered((value for value in values if value), _MOST_FIELDS).items():
            if name not in self.fields:
                if len(self.fields) == _MOST_FIELDS:
                    raise _UnfitError
                self.fields[name] = _Place()
            self.fields[name].see(found, levels)

    def leaves(self) -> int:
        if self.items is not None:
            return self.items.leaves()
        return sum(field.leaves() for field in self.fields.values()) or 1

    def cells(self, slots: int) -> tuple[int, int]:
        """(cells of its arrow arrays, how many of them are used), with an array of `slots` values here."""
        if self.items is not None:
            return self.items.cells(self.items.seen)
        if not self.fields:
            return slots, self.seen
        found = [field.cells(slots) for field in self.fields.values()]
        return sum(cells for cells, _used in found), sum(used for _cells, used in found)

    def type(self) -> Any:
        """The arrow type. Raises _UnfitError: Parquet has no empty struct, DuckDB no field without a name, and a double
        holds no large int exactly.
        """
        if list in self.kinds:
            assert self.items is not None
            return pa.list_(self.items.type())
        if dict in self.kinds:
            if not self.fields or "" in self.fields:
                raise _UnfitError
            return pa.struct([(name, field.type()) for name, field in self.fields.items()])
        if float in self.kinds:
            if self.least not in _EXACT or self.most not in _EXACT:
                raise _UnfitError
            return pa.float64()
        return pa.int64() if int in self.kinds else pa.bool_() if bool in self.kinds else pa.string()


class ColumnTypes:
    """Collects types shard by shard; `schema` is the outcome. Column order is that of first appearance."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._unfit: set[str] = set()
        self._rows = 0
        self._more = False

    def see(self, records: list[dict[str, Any]]) -> None:
        self._rows += len(records)
        for name, values in gathered(records).items():
            if name not in self._places:
                if len(self._places) == _MOST_NAMES:
                    self._more = True
                    continue
                self._places[name] = _Place()
            place = self._places[name]
            if name in self._unfit:
                place.seen += len(values)
                continue
            try:
                place.see(values)
                fits = place.leaves() <= _MOST_LEAVES
            except _UnfitError:
                fits = False
            if not fits:
                self._unfit.add(name)
                self._places[name] = kept = _Place()
                kept.seen = place.seen

    def schema(self) -> pa.Schema:
        fields = []
        spare = _SPARE_CELLS * max(1, self._rows)
        has_rest = self._more
        for name, place in self._places.items():
            kind = self._type(name)
            cells, used = (self._rows, place.seen) if kind is None else place.cells(self._rows)
            if kind is not None and cells > max(spare, _DENSE * used):
                kind, cells = None, self._rows
            if cells > max(spare, _DENSE * place.seen):
                has_rest = True
                continue
            if cells > _DENSE * used:
                spare -= cells
            fields.append(_json(name, JSON) if kind is None else pa.field(name, kind))
        if has_rest:
            fields.append(_json(_unused(_REST, self._places), REST))
        return pa.schema(fields)

    def _type(self, name: str) -> Any:
        try:
            return None if name in self._unfit else self._places[name].type()
        except _UnfitError:
            return None


def build(records: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """The input columns of a shard, one row a record."""
    columns = []
    for field in schema:
        mark = (field.metadata or {}).get(MARK)
        if mark == REST:
            named = set(schema.names)
            rest = [{name: value for name, value in record.items() if name not in named} for record in records]
            values = [_encode(one).decode() if one else None for one in rest]
        else:
            values = [record.get(field.name) for record in records]
            if mark == JSON:
                values = [None if value is None else _encode(value).decode() for value in values]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def gathered(records: Any, most: int | None = None) -> dict[str, list[Any]]:
    """The values of each name, in one pass. Raises _UnfitError where there are more names than `most`."""
    found: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            values = found.get(name)
            if values is not None:
                values.append(value)
                continue
            if len(found) == most:
                raise _UnfitError
            found[name] = [value]
    return found


def _json(name: str, mark: bytes) -> Any:
    return pa.field(name, pa.string(), metadata={MARK: mark})


def _unused(name: str, taken: Any) -> str:
    while name in taken:
        name = f"_{name}"
    return name
