"""Arrow → data, without pandas: every type of Parquet, any year, the same text as Python's where Python has one."""

import datetime
import decimal
import io
import subprocess
import sys
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.rows import times
from batchrun.rows.values import AmbiguousError, to_python

STRUCT = pa.struct([("a", pa.int64()), ("b", pa.null())])
CASES: dict[str, tuple[Any, list[Any]]] = {
    "null": (pa.array([None, None]), [None, None]),
    "flags": (pa.array([True, None]), [True, None]),
    "ints": (pa.array([1, None, 2**63 - 1]), [1, None, 2**63 - 1]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    "doubles": (pa.array([0.1, None]), [0.1, None]),
    "floats": (pa.array([0.1, None, 16777216.0], pa.float32()), [0.1, None, 16777216.0]),
    "half floats": (pa.array([0.5, None], pa.float16()), [0.5, None]),
    "texts": (pa.array(["ä", None]), ["ä", None]),
    "large texts": (pa.array(["ä", None], pa.large_string()), ["ä", None]),
    "text views": (pa.array(["ä", None], pa.string_view()), ["ä", None]),
    "bytes": (pa.array([b"\xff", None]), [b"\xff", None]),
    "bytes of a size": (pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
    "decimals": (pa.array([decimal.Decimal("1.50"), None]), [decimal.Decimal("1.50"), None]),
    "dates": (pa.array([0, -719_529, -735_000, 2_932_897, None], pa.date32()), None),
    "milliseconds of days": (pa.array([86_400_000, None], pa.date64()), ["1970-01-02", None]),
    "ns": (pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")), ["2023-11-14 22:13:20.123456789", None]),
    "us": (pa.array([1_700_000_000_123_456], pa.timestamp("us")), ["2023-11-14 22:13:20.123456"]),
    "whole seconds": (pa.array([1_700_000_000_000], pa.timestamp("ms")), ["2023-11-14 22:13:20"]),
    "infinity": (pa.array([2**63 - 1, -(2**63)], pa.timestamp("us")), None),
    "a zone": (pa.array([1_700_000_000], pa.timestamp("s", "Europe/Berlin")), ["2023-11-14 23:13:20+01:00"]),
    "UTC": (pa.array([1_700_000_000], pa.timestamp("s", "UTC")), ["2023-11-14 22:13:20+00:00"]),
    "a fixed offset": (pa.array([1_700_000_000], pa.timestamp("s", "-03:30")), ["2023-11-14 18:43:20-03:30"]),
    "a zone in the year 20000": (pa.array([569_000_000_000], pa.timestamp("s", "Asia/Tokyo")), None),
    "times": (pa.array([1, None], pa.time64("ns")), ["00:00:00.000000001", None]),
    "times of milliseconds": (pa.array([61_500], pa.time32("ms")), ["00:01:01.500000"]),
    "durations": (pa.array([-1, 90_061_000_000_000, None], pa.duration("ns")), None),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "lists": (pa.array([[1, None], None, []]), [[1, None], None, []]),
    "large lists": (pa.array([[1], None], pa.large_list(pa.int8())), [[1], None]),
    "lists of a size": (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), [[1, 2], None]),
    "structs": (pa.array([{"a": 1}, None, {"a": None}], STRUCT), [{"a": 1, "b": None}, None, {"a": None, "b": None}]),
    "structs without fields": (pa.array([{}, None], pa.struct([])), [{}, None]),
    "maps": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [{"k": 1}, None]),
    "maps by number": (pa.array([[(1, "v")]], pa.map_(pa.int64(), pa.string())), [{"1": "v"}]),
    "lists of structs of lists": (pa.array([[{"a": [1]}], None]), [[{"a": [1]}], None]),
    "run ends": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"])),
        ["a", "a", "b"],
    ),
    "text that is not UTF-8": (pa.array([b"ok", b"\xff", None]).view(pa.string()), ["ok", b"\xff", None]),
}


@pytest.mark.parametrize(("array", "expected"), CASES.values(), ids=CASES)
def test_values(array: Any, expected: list[Any] | None) -> None:
    """Each type gives plain data, whole and cut out of a longer array."""
    made = to_python(array)
    if expected is not None:
        assert made == expected
    assert [type(one) for one in made] == [type(one) for one in to_python(array)]
    assert to_python(array.slice(1)) == made[1:]
    assert to_python(array.slice(len(array))) == []


def test_times_beyond_pythons() -> None:
    """Years before 1 and after 9999 have a text too, by ISO 8601."""
    assert to_python(pa.array([0, -719_529, -735_000, 2_932_897], pa.date32())) == [
        "1970-01-01",
        "-0001-12-31",
        "-0043-08-22",
        "+10000-01-01",
    ]
    assert to_python(pa.array([2**63 - 1], pa.timestamp("us"))) == ["+294247-01-10 04:00:54.775807"]
    assert to_python(pa.array([569_000_000_000], pa.timestamp("s", "Asia/Tokyo")))[0].startswith("+20000-")
    assert to_python(pa.array([-1, 90_061_000_000_000], pa.duration("ns"))) == [
        "-1 day, 23:59:59.999999999",
        "1 day, 1:01:01",
    ]


@given(st.datetimes())
def test_timestamps_as_python_writes_them(moment: datetime.datetime) -> None:
    """In Python's years the text is that of `str(datetime)`, of its date and of its time."""
    count = (moment - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    assert times.timestamp_text(count, 1_000_000, None) == str(moment)
    assert times.date_text(count // 86_400_000_000) == str(moment.date())
    assert times.time_text(count % 86_400_000_000, 1_000_000) == str(moment.time())


@given(st.timedeltas())
def test_durations_as_python_writes_them(length: datetime.timedelta) -> None:
    """A duration's text is that of `str(timedelta)`."""
    assert times.duration_text(length // datetime.timedelta(microseconds=1), 1_000_000) == str(length)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_floats_of_32_bits_keep_their_text(value: float) -> None:
    """A float of 32 bits is the shortest number that stands for it, and still the same one."""
    (made,) = to_python(pa.array([value], pa.float32()))
    assert pa.array([made], pa.float32())[0].as_py() == value


def test_an_unknown_zone_is_named() -> None:
    """A zone that the machine has no data for is an error that names it, never a wrong time."""
    with pytest.raises(times.UnknownZoneError, match="Nowhere/Land"):
        to_python(pa.array([0], pa.timestamp("s", "Nowhere/Land")))


def test_two_fields_of_one_name_are_refused() -> None:
    """A struct with two fields of one name has no data form."""
    fields = [pa.field("a", pa.int64()), pa.field("a", pa.string())]
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array(["x"])], fields=fields)
    with pytest.raises(AmbiguousError, match="two fields named `a`"):
        to_python(twice)


def test_uuids_are_text() -> None:
    """The extension type for UUIDs is written as people write them."""
    known = uuid.UUID(int=7)
    assert to_python(pa.ExtensionArray.from_storage(pa.uuid(), pa.array([known.bytes, None], pa.binary(16)))) == [
        str(known),
        None,
    ]


def test_the_same_without_pandas() -> None:
    """Nothing of it needs pandas or numpy, or changes where they are there."""
    arrays = {name: array for name, (array, _) in CASES.items() if not pa.types.is_run_end_encoded(array.type)}
    storable = {name: array for name, array in arrays.items() if not pa.types.is_struct(array.type)}
    sink = io.BytesIO()
    names = sorted(name for name, array in storable.items() if len(array) == 2)
    table = pa.table({name: storable[name] for name in names})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    code = (
        "import sys; sys.modules['pandas'] = sys.modules['numpy'] = None\n"
        "import pyarrow as pa; from batchrun.rows.values import to_python\n"
        "table = pa.ipc.open_stream(sys.stdin.buffer).read_all().combine_chunks()\n"
        "print([to_python(column.chunk(0)) for column in table.columns])"
    )
    run = subprocess.run([sys.executable, "-c", code], input=sink.getvalue(), capture_output=True, check=True)
    assert run.stdout.decode().strip() == repr([to_python(storable[name]) for name in names])


def test_parquet_gives_every_type_back() -> None:
    """What Parquet can hold of these reads back to the same data."""
    arrays = [array for name, (array, _) in CASES.items() if len(array) == 2 and name != "null"]
    kept = [array for array in arrays if not (pa.types.is_struct(array.type) and not array.type.num_fields)]
    table = pa.table([*kept], names=[str(number) for number in range(len(kept))])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    back = pq.read_table(sink).combine_chunks()
    for array, column in zip(kept, back.columns, strict=True):
        assert to_python(column.chunk(0)) == to_python(array)
