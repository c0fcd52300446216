"""What other libraries keep in the metadata of an input's schema, carried over into the results.

Hugging Face's features, pandas' index and dtypes and the like name columns: they follow a column that is stored under
another name. A description of all columns that a reader would believe more than the file itself gets the results' columns
too, or is left out: it would hide them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Names = Mapping[str, str]
"""The name under which each column of the input is stored."""
_WHOLE = (b"parquet.avro.schema", b"avro.schema", b"iceberg.schema")
_SPARK_TYPES: dict[str, Any] = {
    "string": "string",
    "int64": "long",
    "int32": "integer",
    "double": "double",
    "timestamp[us, tz=UTC]": "timestamp",
}


def carried(metadata: Mapping[bytes, bytes] | None, names: Names, results: Any) -> dict[bytes, bytes]:
    """The metadata of a file of results over an input with `metadata`; `results` is the arrow schema of the results'
    columns. What can't be understood is left out where it could mislead, and kept as it was elsewhere.
    """
    found: dict[bytes, bytes] = {}
    for key, value in (metadata or {}).items():
        if key in _WHOLE:
            continue
        rewritten = _KNOWN.get(key)
        if rewritten is None:
            found[key] = value
            continue
        try:
            found[key] = msgspec.json.encode(rewritten(msgspec.json.decode(value), names, results))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            continue
    return found


def _pandas(said: Any, names: Names, _results: Any) -> Any:
    for column in said["columns"]:
        for key in ("name", "field_name"):
            column[key] = _renamed(column.get(key), names)
    said["index_columns"] = [_renamed(one, names) for one in said["index_columns"]]
    return said


def _features(said: Any, names: Names, _results: Any) -> Any:
    info = said.get("info") or {}
    if info.get("features"):
        info["features"] = _keys(info["features"], names)
    return said


def _geo(said: Any, names: Names, _results: Any) -> Any:
    said["columns"] = _keys(said["columns"], names)
    said["primary_column"] = _renamed(said["primary_column"], names)
    return said


def _spark(said: Any, names: Names, results: Any) -> Any:
    """A schema that Spark reads instead of the file's: the results' columns are added to it. Raises KeyError for a type
    that has no name here.
    """
    for field in said["fields"]:
        field["name"] = _renamed(field["name"], names)
    for field in results:
        kind = _SPARK_TYPES[str(field.type)]
        said["fields"].append({"name": field.name, "type": kind, "nullable": True, "metadata": {}})
    return said


def _keys(given: Mapping[str, Any], names: Names) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in given.items()}


def _renamed(name: Any, names: Names) -> Any:
    return names.get(name, name) if isinstance(name, str) else name


_KNOWN: dict[bytes, Callable[[Any, Names, Any], Any]] = {
    b"pandas": _pandas,
    b"huggingface": _features,
    b"geo": _geo,
    b"org.apache.spark.sql.parquet.row.metadata": _spark,
}
