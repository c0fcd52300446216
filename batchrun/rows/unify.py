"""One type for a column whose files have several: where nothing is lost, else none; and arrays brought to it.

`common` decides by types alone, and `fit` by values where a type may or may not hold them (an int in a double): it
raises pa.ArrowInvalid rather than bend one.
"""

from typing import Any

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")
_WIDEST_DECIMAL = 38


def common(one: Any, other: Any) -> Any:
    """The type that holds the values of both, or None where there is none."""
    one, other = settled(one), settled(other)
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if isinstance(one, pa.BaseExtensionType) or isinstance(other, pa.BaseExtensionType):
        return common(getattr(one, "storage_type", one), getattr(other, "storage_type", other))
    if pa.types.is_dictionary(one) or pa.types.is_dictionary(other):
        return _dictionary(one, other)
    for one_like, other_like in ((one, other), (other, one)):
        for rule in (_numbers, _texts, _times, _lists):
            found = rule(one_like, other_like)
            if found is not None:
                return found
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _structs(one, other)
    return None


def settled(kind: Any) -> Any:
    """A type as it is kept: a dictionary's indices are of 32 bits, so that several dictionaries can become one."""
    if pa.types.is_dictionary(kind) and kind.index_type.bit_width < 32:
        return pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
    return kind


def fit(array: Any, kind: Any) -> Any:
    """An array with just the values it has, of the type `kind`. Raises pa.ArrowInvalid where that can't hold one."""
    if array.type == kind:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if isinstance(array.type, pa.BaseExtensionType):
        return fit(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        if not pa.types.is_dictionary(kind):
            return fit(array.dictionary_decode(), kind)
        indices, values = array.indices.cast(kind.index_type), fit(array.dictionary, kind.value_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    if pa.types.is_struct(kind):
        return _fit_struct(array, kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _fit_list(array, kind)
    return array.cast(kind)


def _numbers(one: Any, other: Any) -> Any:
    """An int and a double have a double in common; a value that it can't hold is found by `fit`."""
    if pa.types.is_integer(one):
        if pa.types.is_integer(other):
            return _integers(one, other)
        if pa.types.is_decimal(other):
            digits = max(len(str(2**one.bit_width)), other.precision - other.scale) + other.scale
            return pa.decimal128(digits, other.scale) if digits <= _WIDEST_DECIMAL else None
    if pa.types.is_floating(other) and (pa.types.is_integer(one) or pa.types.is_floating(one)):
        return pa.float64()
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = max(one.precision - one.scale, other.precision - other.scale) + scale
        return pa.decimal128(digits, scale) if digits <= _WIDEST_DECIMAL else None
    return None


def _integers(one: Any, other: Any) -> Any:
    if pa.types.is_signed_integer(one) == pa.types.is_signed_integer(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    unsigned, signed = (other, one) if pa.types.is_signed_integer(one) else (one, other)
    width = max(unsigned.bit_width * 2, signed.bit_width)
    return pa.decimal128(20) if width > 64 else {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width]


def _texts(one: Any, other: Any) -> Any:
    if _is_text(one) and _is_text(other):
        return pa.large_string()
    if _is_binary(one) and _is_binary(other):
        return pa.large_binary()
    return None


def _is_text(kind: Any) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: Any) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _times(one: Any, other: Any) -> Any:
    if pa.types.is_date(one) and pa.types.is_date(other):
        return pa.date32()
    if pa.types.is_date(one) and pa.types.is_timestamp(other) and other.tz is None:
        return other
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and (one.tz is None) == (other.tz is None):
        return pa.timestamp(_finer(one, other), one.tz if one.tz == other.tz else "UTC")
    if pa.types.is_time(one) and pa.types.is_time(other):
        unit = _finer(one, other)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if pa.types.is_duration(one) and pa.types.is_duration(other):
        return pa.duration(_finer(one, other))
    return None


def _finer(one: Any, other: Any) -> str:
    return _UNITS[max(_UNITS.index(one.unit), _UNITS.index(other.unit))]


def _is_list(kind: Any) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _lists(one: Any, other: Any) -> Any:
    if not (_is_list(one) and _is_list(other)):
        return None
    inner = common(one.value_type, other.value_type)
    return None if inner is None else pa.large_list(inner)


def _structs(one: Any, other: Any) -> Any:
    """The fields of both; a struct that lacks one has null there."""
    first = {field.name: field for field in one}
    second = {field.name: field for field in other}
    if len(first) < one.num_fields or len(second) < other.num_fields:
        return None
    fields = []
    for name in dict.fromkeys([*first, *second]):
        if name in first and name in second:
            kind = common(first[name].type, second[name].type)
            if kind is None:
                return None
            fields.append(first[name].with_type(kind).with_nullable(first[name].nullable or second[name].nullable))
        else:
            fields.append((first.get(name) or second[name]).with_nullable(True))
    return pa.struct(fields)


def _dictionary(one: Any, other: Any) -> Any:
    both = pa.types.is_dictionary(one) and pa.types.is_dictionary(other)
    inner = common(*(kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other)))
    if inner is None or not both:
        return inner
    return pa.dictionary(pa.int32(), inner, one.ordered and other.ordered)


def _fit_struct(array: Any, kind: Any) -> Any:
    own = array.type
    children = {own.field(number).name: child for number, child in enumerate(array.flatten())}
    fitted = [
        fit(children[field.name], field.type) if field.name in children else pa.nulls(len(array), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(fitted, fields=list(kind), mask=array.is_null())


def _fit_list(array: Any, kind: Any) -> Any:
    plain = array.cast(pa.large_list(array.type.value_field))
    bounds = plain.offsets.to_pylist()
    offsets = pa.array([bound - bounds[0] for bound in bounds], pa.int64())
    values = fit(plain.values.slice(bounds[0], bounds[-1] - bounds[0]), kind.value_type)
    return pa.LargeListArray.from_arrays(offsets, values, type=kind, mask=plain.is_null())
