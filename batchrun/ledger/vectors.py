"""Embeddings as arrow columns: one vector in `embedding`, those of several inputs in `embeddings`. Never rounded.

In memory and in the journal a vector is packed (`array("d")`, eight bytes a number): as Python floats the vectors of a
shard would take four times as much.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from batchrun.records import Result

_ONE = pa.list_(pa.float64())
FIELDS = (pa.field("embedding", _ONE), pa.field("embeddings", pa.list_(_ONE)))
NAMES = tuple(field.name for field in FIELDS)


def filler(name: str) -> Callable[[Sequence[Result]], Any]:
    """What makes the column of that name from results."""
    return _one if name == NAMES[0] else _several


def _one(results: Sequence[Result]) -> Any:
    return _lists([one.embeddings[0] if one.embeddings and len(one.embeddings) == 1 else None for one in results])


def _several(results: Sequence[Result]) -> Any:
    several = [one.embeddings if one.embeddings and len(one.embeddings) > 1 else None for one in results]
    inner = _lists([vector for vectors in several for vector in vectors or ()])
    offsets = _offsets([None if vectors is None else len(vectors) for vectors in several])
    return pa.ListArray.from_arrays(offsets, inner)


def unpack(one: Any, several: Any) -> list[list[bytes] | None]:
    """The packed vectors of each row, from its two columns."""
    return [
        [_packed(single)] if single.is_valid else [_packed(vector) for vector in many] if many.is_valid else None
        for single, many in zip(one, several, strict=True)
    ]


def _lists(vectors: list[bytes | None]) -> Any:
    values = pa.Array.from_buffers(
        pa.float64(), sum(map(len, filter(None, vectors))) // 8, [None, pa.py_buffer(b"".join(filter(None, vectors)))]
    )
    return pa.ListArray.from_arrays(_offsets([None if one is None else len(one) // 8 for one in vectors]), values)


def _offsets(lengths: list[int | None]) -> Any:
    """Where each list begins; a null there is a null list."""
    at = 0
    offsets: list[int | None] = []
    for length in lengths:
        offsets.append(None if length is None else at)
        at += length or 0
    return pa.array([*offsets, at], pa.int32())


def _packed(vector: Any) -> bytes:
    return array("d", vector.as_py()).tobytes()
