"""What results cost beside their column `cost_usd`: the share of their prompts and where their prices are from.

The summary needs both, and results.parquet has no columns for them: they stand, packed, in the file's metadata, a few
bytes a result, one pack for each row group.
"""

import sys
import zlib
from array import array
from collections.abc import Sequence

import msgspec

from batchrun.ledger.durable import with_checksum, without_checksum
from batchrun.records import Result

_NONE = -1
Share = tuple[int | None, str | None]
"""The prompts' share of a result's cost in pico-dollars, and where its price is from."""


class _Pack(msgspec.Struct):
    inputs: bytes
    places: bytes
    sources: list[str | None]


def pack(results: Sequence[Result]) -> bytes:
    """The shares of results, in their order."""
    sources: dict[str | None, int] = {}
    places = array("H", (min(sources.setdefault(one.price_source, len(sources)), 0xFFFF) for one in results))
    inputs = array("q", (_NONE if one.input_cost is None else one.input_cost for one in results))
    return with_checksum(msgspec.json.encode(_Pack(_squeezed(inputs), _squeezed(places), list(sources))))


def unpack(packed: bytes) -> list[Share]:
    """What was packed. Raises ValueError where it is damaged."""
    text = without_checksum(packed)
    if text is None:
        raise ValueError("what is kept of its prices is not what it was")
    try:
        pack = msgspec.json.decode(text, type=_Pack)
        inputs, places = _spread("q", pack.inputs), _spread("H", pack.places)
        return [
            (None if cost == _NONE else cost, pack.sources[place]) for cost, place in zip(inputs, places, strict=True)
        ]
    except (msgspec.DecodeError, zlib.error, IndexError) as error:
        raise ValueError(f"what is kept of its prices is damaged ({error})") from error


def _squeezed(numbers: "array[int]") -> bytes:
    return zlib.compress(_little_endian(numbers).tobytes())


def _spread(kind: str, squeezed: bytes) -> "array[int]":
    numbers = array(kind, zlib.decompress(squeezed))
    return _little_endian(numbers)


def _little_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
