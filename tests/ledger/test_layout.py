"""The columns of results in one record."""

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings

from batchrun.ledger.layout import RESULT_SCHEMA, Layout, result_names
from batchrun.ledger.swept import swept
from batchrun.records import Result

INPUTS = pa.schema([("text", pa.string()), ("row", pa.int64()), ("response", pa.string())])


def test_optional_columns_stand_where_the_job_keeps_them() -> None:
    """The input's columns, those of every result, and one group for each thing that the job asks to keep."""
    named = ["text", "input_row", "input_response"]
    assert Layout(INPUTS).schema.names == [*named, *RESULT_SCHEMA.names]
    extra = ["embedding", "embeddings", "response"]
    assert Layout(INPUTS, raw=True, embeddings=True).schema.names == [*named, *RESULT_SCHEMA.names, *extra]


def test_results_begin_behind_the_inputs_columns() -> None:
    """Which columns are results' is told from the names alone, also where an input's are named alike."""
    assert result_names(Layout(INPUTS).schema.names) == RESULT_SCHEMA.names


def test_a_part_is_filled_from_results() -> None:
    """Every column gets its values; what was paid in dollars, though it is kept in pico-dollars."""
    result = Result(3, "r", "default", 0, "h", "ok", completion="x", response="{}", cost=500_000_000_000)
    layout = Layout(INPUTS, raw=True)
    inputs = pa.table({"text": ["a"], "row": [7], "response": ["mine"]})
    row = layout.table(inputs, [result]).to_pylist()[0]
    assert (row["input_row"], row["row"], row["input_response"], row["response"]) == (7, 3, "mine", "{}")
    assert (row["completion"], row["cost_usd"]) == ("x", 0.5)


SWEPT = swept({"temperature": {"a": 0, "b": 0.5}})


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([True, False], pa.bool_(), [True, False]),
        ([1, 2], pa.int64(), [1, 2]),
        ([0, 0.5], pa.float64(), [0.0, 0.5]),
        (["m", "n"], pa.string(), ["m", "n"]),
        ([1, None], pa.int64(), [1, None]),
        ([1, "n"], pa.string(), ["1", "n"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([{"type": "text"}, [1]], pa.string(), ['{"type":"text"}', "[1]"]),
        ([1 << 70, 1], pa.string(), ["1180591620717411303424", "1"]),
    ],
)
def test_a_swept_parameter_is_a_column_of_its_type(
    values: list[object], kind: pa.DataType, stored: list[object]
) -> None:
    """Each result has its variant's value, typed as given; values of unlike types are JSON text."""
    layout = Layout(INPUTS, swept=swept({"p": dict(zip("ab", values, strict=True))}))
    inputs = pa.table({"text": ["", ""], "row": [0, 0], "response": ["", ""]})
    results = [Result(0, "r", variant, 0, "h", "ok") for variant in "ab"]
    column = layout.table(inputs, results)["param_p"]
    assert column.type == kind
    assert column.to_pylist() == stored


def test_what_was_sent_is_a_column_where_the_job_keeps_it() -> None:
    """Each result has its own; a row that was never sent has none. An input's column of that name gets the prefix."""
    layout = Layout(pa.schema([("prompt", pa.string())]), prompt=True)
    results = [Result(0, "r", "default", 0, "h", "ok"), Result(1, "r", "default", 0, "h", "failed")]
    table = layout.table(pa.table({"prompt": ["x", "y"]}), results, {results[0].key: "[]"})
    assert (table["input_prompt"].to_pylist(), table["prompt"].to_pylist()) == (["x", "y"], ["[]", None])


@pytest.mark.parametrize(
    "change",
    [
        {"raw": True},
        {"embeddings": True},
        {"prompt": True},
        {"swept": SWEPT},
        {"inputs": pa.schema([("text", pa.int64())])},
    ],
)
def test_layouts_that_differ_have_another_fingerprint(change: dict[str, object]) -> None:
    """Parts can be merged only where their columns agree: name, type and order."""
    layout = Layout(INPUTS)
    assert msgspec.structs.replace(layout).fingerprint() == layout.fingerprint()
    assert msgspec.structs.replace(layout, **change).fingerprint() != layout.fingerprint()


def test_a_results_name_in_other_case_collides() -> None:
    """An input's `ID` would hide `id` in readers that don't mind the case; so would a name that the prefix makes."""
    inputs = pa.schema([(name, pa.string()) for name in ("ID", "Status", "INPUT_ID", "Text", "text")])
    assert Layout(inputs).input_names == ["input_input_ID", "input_Status", "INPUT_ID", "Text", "text"]


def test_columns_of_one_name_are_told_apart() -> None:
    """Parquet may have two columns of one name; the results have none."""
    assert Layout(pa.schema([("a", pa.string()), ("a", pa.int64())])).input_names == ["a", "input_a"]


def test_metadata_of_the_whole_tells_no_layouts_apart() -> None:
    """Appended rows change what pandas says of its index, and no column; what a field says of itself counts."""
    layout = Layout(INPUTS)
    assert Layout(INPUTS.with_metadata({"pandas": "{}"})).fingerprint() == layout.fingerprint()
    marked = INPUTS.set(0, INPUTS.field(0).with_metadata({"batchrun": "json"}))
    assert Layout(marked).fingerprint() != layout.fingerprint()


NAMES = st.sampled_from(
    [
        "id",
        "ID",
        "Id",
        "row",
        "Row",
        "status",
        "response",
        "embedding",
        "input_id",
        "INPUT_ID",
        "a",
        "A",
        "",
        "prompt",
        "param_temperature",
    ]
)


@settings(max_examples=50, deadline=None)
@given(st.lists(NAMES | st.text(max_size=4), max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_every_column_has_a_name_of_its_own(names: list[str], raw: bool, embeddings: bool, prompt: bool) -> None:
    """Whatever an input's columns are called, in any case: all stored names differ, and none hides a result's."""
    layout = Layout(
        pa.schema([(name, pa.string()) for name in names]), raw=raw, embeddings=embeddings, prompt=prompt, swept=SWEPT
    )
    stored = layout.schema.names
    assert len(set(stored)) == len(stored)
    results = [column.field.name for column in layout.columns] + ["prompt"] * prompt
    assert not {name.lower() for name in layout.input_names} & set(results)
    assert list(result_names(stored)) == results
