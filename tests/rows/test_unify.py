"""One type for a column whose files have several: where nothing is lost, else none."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from batchrun.rows.unify import common, fit
from batchrun.rows.values import to_python

I64, F64, TEXT = pa.int64(), pa.float64(), pa.string()
DICT8 = pa.dictionary(pa.int8(), TEXT)
CASES: dict[str, tuple[Any, Any, Any]] = {
    "the same": (I64, I64, I64),
    "null": (pa.null(), TEXT, TEXT),
    "ints": (pa.int8(), I64, I64),
    "unsigned": (pa.uint8(), pa.uint32(), pa.uint32()),
    "signed and unsigned": (pa.int8(), pa.uint32(), I64),
    "uint64 and int64": (pa.uint64(), I64, pa.decimal128(20)),
    "int and double": (I64, F64, F64),
    "float and double": (pa.float32(), F64, F64),
    "decimals": (pa.decimal128(5, 2), pa.decimal128(6, 4), pa.decimal128(7, 4)),
    "int and decimal": (pa.int32(), pa.decimal128(5, 2), pa.decimal128(12, 2)),
    "too wide decimals": (pa.decimal128(38, 0), pa.decimal128(38, 30), None),
    "double and decimal": (F64, pa.decimal128(5, 2), None),
    "texts": (TEXT, pa.large_string(), pa.large_string()),
    "bytes": (pa.binary(), pa.binary(4), pa.large_binary()),
    "text and bytes": (TEXT, pa.binary(), None),
    "text and int": (TEXT, I64, None),
    "flag and int": (pa.bool_(), I64, None),
    "us and ns": (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
    "two zones": (pa.timestamp("us", "UTC"), pa.timestamp("ms", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
    "a zone and none": (pa.timestamp("us", "UTC"), pa.timestamp("us"), None),
    "date and timestamp": (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
    "dates": (pa.date32(), pa.date64(), pa.date32()),
    "durations": (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
    "times": (pa.time32("ms"), pa.time64("us"), pa.time64("us")),
    "two dictionaries": (DICT8, pa.dictionary(pa.int32(), TEXT), pa.dictionary(pa.int32(), TEXT)),
    "text and dictionary": (DICT8, TEXT, TEXT),
    "lists": (pa.list_(pa.int32()), pa.large_list(I64), pa.large_list(I64)),
    "list and text": (pa.list_(TEXT), TEXT, None),
    "structs": (
        pa.struct([("a", pa.int32())]),
        pa.struct([("b", TEXT), ("a", I64)]),
        pa.struct([("a", I64), ("b", TEXT)]),
    ),
    "structs that don't fit": (pa.struct([("a", I64)]), pa.struct([("a", TEXT)]), None),
    "extension and its storage": (pa.uuid(), pa.binary(16), pa.binary(16)),
}


@pytest.mark.parametrize(("one", "other", "expected"), CASES.values(), ids=CASES)
def test_common(one: Any, other: Any, expected: Any) -> None:
    """The common type of two, either way round, holds both or is none."""
    assert common(one, other) == expected
    turned = common(other, one)
    assert turned == expected or {*map(str, turned)} == {*map(str, expected)}


STRUCT = pa.struct([("a", I64), ("b", pa.list_(pa.struct([("c", F64), ("d", TEXT)])))])
FITTED: dict[str, tuple[Any, Any, list[Any]]] = {
    "ints": (pa.array([1, None], pa.int8()), I64, [1, None]),
    "ints as decimals": (pa.array([2**64 - 1], pa.uint64()), pa.decimal128(20), [Decimal(2**64 - 1)]),
    "ints as doubles": (pa.array([1, None]), F64, [1.0, None]),
    "nulls": (pa.nulls(2), STRUCT, [None, None]),
    "dictionary to text": (pa.array(["a", None]).dictionary_encode(), TEXT, ["a", None]),
    "small dictionary": (
        pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["a"])),
        pa.dictionary(pa.int32(), TEXT),
        ["a", None],
    ),
    "structs": (
        pa.array([{"b": [{"c": 1}]}, None, {"b": None}]),
        pa.struct([("a", I64), ("b", pa.large_list(pa.struct([("c", F64), ("d", TEXT)])))]),
        [{"a": None, "b": [{"c": 1.0, "d": None}]}, None, {"a": None, "b": None}],
    ),
}


@pytest.mark.parametrize(("array", "kind", "expected"), FITTED.values(), ids=FITTED)
def test_fit(array: Any, kind: Any, expected: list[Any]) -> None:
    """An array is brought to its common type with every value and every null, also where it is a slice."""
    made = fit(array, kind)
    assert made.type == kind
    assert to_python(made) == expected
    assert to_python(fit(array.slice(1), kind)) == expected[1:]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([2**53 + 1]), F64),
        (pa.array([2**62], pa.timestamp("us")), pa.timestamp("ns")),
        (pa.array([1], pa.date64()), pa.date32()),
    ],
)
def test_a_value_that_does_not_fit_is_refused(array: Any, kind: Any) -> None:
    """A value that the common type can't hold is an error, never another value."""
    with pytest.raises(pa.ArrowInvalid):
        fit(array, kind)
