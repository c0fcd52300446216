"""Arrow arrays → plain Python data, without pandas or numpy, the same whether they are installed or not.

What comes out is None, bool, int, float, str, bytes, Decimal, and lists and dicts of those. Dates, times and durations
become text (times.py), a map a dict, a float of 32 bits the shortest number that stands for it, and text that is not
UTF-8 stays bytes.
"""

import itertools
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from batchrun.rows import times

_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UUID = "arrow.uuid"


class AmbiguousError(ValueError):
    """A struct with two fields of one name: no data that a template or a request could tell apart."""


def to_python(array: Any) -> list[Any]:
    """The values of an arrow array. Raises AmbiguousError and times.UnknownZoneError, both ValueError."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        values = to_python(array.storage)
        if kind.extension_name == _UUID:
            return [None if value is None else str(uuid.UUID(bytes=value)) for value in values]
        return values
    found = _NESTED.get(kind.id)
    if found is not None:
        converted: list[Any] = found(array)
        return converted
    if pa.types.is_temporal(kind):
        return _times(array)
    if pa.types.is_float16(kind):
        array, kind = array.cast(pa.float32()), pa.float32()
    if pa.types.is_float32(kind):
        return [None if text is None else float(text) for text in array.cast(pa.string()).to_pylist()]
    try:
        plain: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        return [_text(value) for value in array.cast(pa.large_binary()).to_pylist()]
    return plain


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _times(array: Any) -> list[str | None]:
    kind = array.type
    if pa.types.is_interval(kind):
        return [None if one is None else _interval(*one) for one in array.to_pylist()]
    whole = pa.int32() if kind.bit_width == 32 else pa.int64()
    counts = array.view(whole).to_pylist()
    if pa.types.is_date32(kind):
        return _each(counts, times.date_text)
    if pa.types.is_date64(kind):
        return _each(counts, lambda count: times.date_text(count // 86_400_000))
    per_s = _PER_S[kind.unit]
    if pa.types.is_time(kind):
        return _each(counts, lambda count: times.time_text(count, per_s))
    if pa.types.is_duration(kind):
        return _each(counts, lambda count: times.duration_text(count, per_s))
    return _each(counts, lambda count: times.timestamp_text(count, per_s, kind.tz))


def _each(counts: Sequence[int | None], text: Callable[[int], str]) -> list[str | None]:
    return [None if count is None else text(count) for count in counts]


def _interval(months: int, days: int, nanoseconds: int) -> str:
    return f"{months} months, {days} days, {times.duration_text(nanoseconds, 1_000_000_000)}"


def _dictionary(array: Any) -> list[Any]:
    values = to_python(array.dictionary)
    return [None if index is None else values[index] for index in array.indices.to_pylist()]


def _struct(array: Any) -> list[dict[str, Any] | None]:
    kind = array.type
    names = [kind.field(number).name for number in range(kind.num_fields)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AmbiguousError(f"a struct in it has two fields named `{twice}`; give them names of their own")
    children = [to_python(child) for child in array.flatten()]
    rows = zip(*children, strict=True) if children else iter([()] * len(array))
    made: list[dict[str, Any] | None] = [dict(zip(names, row, strict=True)) for row in rows]
    if array.null_count:
        made = [row if valid else None for row, valid in zip(made, array.is_valid().to_pylist(), strict=True)]
    return made


def _list(array: Any) -> list[list[Any] | None]:
    bounds = array.offsets.to_pylist()
    values = to_python(array.values.slice(bounds[0], bounds[-1] - bounds[0]))
    return _cut(array, bounds, values)


def _map(array: Any) -> list[dict[Any, Any] | None]:
    bounds = array.offsets.to_pylist()
    part = (bounds[0], bounds[-1] - bounds[0])
    keys = [key if isinstance(key, str) else str(key) for key in to_python(array.keys.slice(*part))]
    pairs = list(zip(keys, to_python(array.items.slice(*part)), strict=True))
    return [None if found is None else dict(found) for found in _cut(array, bounds, pairs)]


def _cut(array: Any, bounds: list[int], values: list[Any]) -> list[list[Any] | None]:
    first = bounds[0]
    made: list[list[Any] | None] = [values[start - first : end - first] for start, end in itertools.pairwise(bounds)]
    if array.null_count:
        made = [one if valid else None for one, valid in zip(made, array.is_valid().to_pylist(), strict=True)]
    return made


def _as_list(array: Any) -> list[list[Any] | None]:
    """Lists of a fixed size and list views, by way of ordinary lists."""
    return _list(array.cast(pa.large_list(array.type.value_field)))


def _run_ends(array: Any) -> list[Any]:
    import pyarrow.compute as pc  # late: it takes a while to load, and hardly any file needs it

    return to_python(pc.run_end_decode(array))


_NESTED: dict[int, Callable[[Any], list[Any]]] = {
    pa.null().id: lambda array: [None] * len(array),
    pa.dictionary(pa.int8(), pa.string()).id: _dictionary,
    pa.struct([]).id: _struct,
    pa.list_(pa.null()).id: _list,
    pa.large_list(pa.null()).id: _list,
    pa.list_(pa.null(), 1).id: _as_list,
    pa.list_view(pa.null()).id: _as_list,
    pa.large_list_view(pa.null()).id: _as_list,
    pa.map_(pa.string(), pa.null()).id: _map,
    pa.run_end_encoded(pa.int32(), pa.null()).id: _run_ends,
}
