"""The columns of a run's results in one record: which there are, in which order, and how each is filled (contract.md §6).

A column that only some jobs have is one more field of `Layout` and one more line in its `columns`; nothing else has to
know of it. Never reads or writes a file.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from batchrun.ledger import swept, vectors
from batchrun.ledger.carried import carried
from batchrun.ledger.swept import Swept
from batchrun.money import usd
from batchrun.records import Result


class Column(msgspec.Struct, frozen=True):
    """One column of results. `fill` makes its array; without it the values are the results' attribute of that name."""

    field: Any
    fill: Callable[[Sequence[Result]], Any] | None = None


RESULT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("variant", pa.string()),
        ("sample", pa.int32()),
        ("status", pa.string()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("refusal", pa.string()),
        ("reasoning", pa.string()),
        ("tool_calls", pa.string()),
        ("model", pa.string()),
        ("endpoint", pa.string()),
        ("response_id", pa.string()),
        ("system_fingerprint", pa.string()),
        ("created", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("usage_source", pa.string()),
        ("cost_usd", pa.float64()),
        ("attempts", pa.int32()),
        ("unconfirmed_attempts", pa.int32()),
        ("latency_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("error_kind", pa.string()),
        ("error_status", pa.int32()),
        ("error_message", pa.string()),
        ("request_hash", pa.string()),
        ("service_tier", pa.string()),
        ("endpoint_cost_usd", pa.float64()),
    ]
)
"""The columns that every file of results has, but those of LATER."""
LATER = frozenset({"service_tier", "endpoint_cost_usd"})
"""Columns that came after the first version: files that it wrote have none, and their results the default there."""
COST = "cost_usd"
RESPONSE = "response"
PROMPT = "prompt"
Prompts = Mapping[tuple[int, str, int], str]
"""What was sent, as JSON, by a request's key."""


def _costs(results: Sequence[Result]) -> Any:
    return pa.array([None if one.cost is None else usd(one.cost) for one in results], pa.float64())


_FILLED = {COST: _costs}
_EVERY = tuple(Column(field, _FILLED.get(field.name)) for field in RESULT_SCHEMA)
_RAW = (Column(pa.field(RESPONSE, pa.string())),)
_PROMPT = pa.field(PROMPT, pa.string())
_VECTORS = tuple(Column(field, vectors.filler(field.name)) for field in vectors.FIELDS)


class Layout(msgspec.Struct, frozen=True):
    """The columns of one run. `inputs` is the arrow schema of its input; the other fields say which optional columns the
    whole job keeps: the `raw` body of every response, the `prompt` as sent, the vectors of `embeddings`, the parameters in
    which variants differ (`swept`). `without` are columns of LATER that a merged file leaves out, since no result has a
    value there.
    """

    inputs: Any
    raw: bool = False
    embeddings: bool = False
    prompt: bool = False
    swept: tuple[Swept, ...] = ()
    without: frozenset[str] = frozenset()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a result, in order."""
        return (
            *(column for column in _EVERY if column.field.name not in self.without),
            *(_VECTORS if self.embeddings else ()),
            *(_RAW if self.raw else ()),
            *(Column(one.field, partial(swept.fill, one)) for one in self.swept),
        )

    @property
    def input_names(self) -> list[str]:
        """The names under which input columns are stored: one that collides with a result's, or is an earlier one's too,
        gets the prefix `input_`. A result's name in other case collides: DuckDB, Spark and others don't tell them apart.
        """
        taken = {column.field.name for column in (*_EVERY, *self.columns, *_RAW)} | ({PROMPT} if self.prompt else set())
        given = {name.lower() for name in self.inputs.names}
        names: dict[str, None] = {}
        for column in self.inputs.names:
            name = column
            while name.lower() in taken or name in names or (name != column and name.lower() in given):
                name = f"input_{name}"
            names[name] = None
        return list(names)

    @property
    def schema(self) -> Any:
        """The schema of a part: the input's columns first, each with all that its own schema says of it."""
        names, results = self.input_names, pa.schema([column.field for column in self.columns])
        if self.prompt:
            results = results.append(_PROMPT)
        inputs = (field.with_name(name) for name, field in zip(names, self.inputs, strict=True))
        metadata = carried(self.inputs.metadata, dict(zip(self.inputs.names, names, strict=True)), results)
        return pa.schema([*inputs, *results], metadata or None)

    def table(self, inputs: Any, results: Sequence[Result], prompts: Prompts | None = None) -> Any:
        """The table of a part: a row of `inputs` for each result. `prompts` are what was sent, where the job keeps it."""
        arrays = list(inputs.columns)
        for column in self.columns:
            name = column.field.name
            if column.fill is not None:
                arrays.append(column.fill(results))
            else:
                arrays.append(pa.array([getattr(result, name) for result in results], column.field.type))
        if self.prompt:
            arrays.append(pa.array([(prompts or {}).get(result.key) for result in results], _PROMPT.type))
        return pa.table(arrays, schema=self.schema)

    def fingerprint(self) -> str:
        """What tells layouts apart: parts of one run that differ in it can't be merged."""
        columns = self.schema.remove_metadata()  # that of the fields stays
        return hashlib.blake2b(columns.serialize().to_pybytes(), digest_size=16).hexdigest()


NO_INPUT = Layout(pa.schema([]))
"""The columns of results alone."""


def completed(table: Any) -> Any:
    """A table of results with every column that a part has: those of LATER that it goes without are empty."""
    for place, field in enumerate(RESULT_SCHEMA):
        if field.name in LATER and field.name not in result_names(table.column_names):
            first = table.column_names.index(RESULT_SCHEMA.names[0])
            table = table.add_column(first + place, field, pa.nulls(table.num_rows, field.type))
    return table


def result_names(names: Sequence[str]) -> Sequence[str]:
    """The results' columns among all columns of a file: an input's stand before the first of them, `row`, and none of
    them is named so.
    """
    return names[names.index(RESULT_SCHEMA.names[0]) :]
