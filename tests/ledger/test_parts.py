"""Parts: sealed shards, their merge and its undoing."""

import functools
from array import array
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.errors import JobError, LedgerError
from batchrun.ledger import parts, sealed
from batchrun.ledger.layout import RESULT_SCHEMA, Layout
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result

DEEP = pa.table({"deep": [functools.reduce(lambda value, _: [value], range(60), 1)]})


def results(first: int, count: int, samples: int = 1) -> list[Result]:
    return [
        Result(
            row,
            f"r{row}",
            "default",
            sample,
            f"h{row}",
            "ok",
            completion="x",
            created=1,
            started_at=10**15 + row,
            service_tier="flex",
            endpoint_cost_usd=0.5,
            cost=7_000_001 + row,
            input_cost=row,
            price_source="job",
        )
        for row in range(first, first + count)
        for sample in range(samples)
    ]


def stored(path: Path) -> Stored:
    return Stored(LocalStore(path.parent), path.name)


def part(folder: Path, number: int, inputs: pa.Table, found: list[Result], per_row: int = 1) -> Path:
    path = folder / f"part-{number:05d}.parquet"
    layout = Layout(inputs.schema)
    parts.write_part(stored(path), layout, inputs, per_row, found)
    return path


def test_colliding_input_columns_get_a_prefix() -> None:
    """An input column never hides a result's, nor one with the prefix already."""
    assert Layout(pa.schema([(name, pa.string()) for name in ("id", "text", "status", "input_id")])).input_names == [
        "input_input_id",
        "text",
        "input_status",
        "input_id",
    ]


def test_a_part_holds_inputs_then_results(tmp_path: Path) -> None:
    """Input columns come first and are repeated for each sample of a row."""
    path = part(tmp_path, 0, pa.table({"text": ["a", "b"]}), results(0, 2, samples=2), per_row=2)
    table = pq.read_table(path)
    assert table.column_names == ["text", *RESULT_SCHEMA.names]
    assert table["text"].to_pylist() == ["a", "a", "b", "b"]
    assert table["sample"].to_pylist() == [0, 1, 0, 1]
    assert table.schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_shard_with_a_result_missing_is_not_sealed(tmp_path: Path) -> None:
    """Exactly one result for every request, or no part."""
    with pytest.raises(LedgerError, match="1 results for 2 requests"):
        part(tmp_path, 0, pa.table({"text": ["a", "b"]}), results(0, 1))
    assert list(tmp_path.iterdir()) == []


def test_merge_and_split_are_each_others_undoing(tmp_path: Path) -> None:
    """One row group a part, and each part comes back as it was."""
    tables = [pa.table({"text": ["a", "b"]}), pa.table({"text": ["c"]})]
    paths = [part(tmp_path, 0, tables[0], results(0, 2)), part(tmp_path, 1, tables[1], results(2, 1))]
    before = [pq.read_table(path) for path in paths]
    merged = tmp_path / "results.parquet"
    parts.merge(map(stored, paths), stored(merged), Layout(tables[0].schema))
    assert pq.ParquetFile(merged).num_row_groups == 2
    for path in paths:
        path.unlink()
    parts.split(stored(merged), map(stored, paths))
    assert [pq.read_table(path) for path in paths] == before


def test_results_are_read_back_as_they_were(tmp_path: Path) -> None:
    """A part is a faithful copy of the journal's results."""
    path = part(tmp_path, 0, pa.table({"text": ["a", "b"]}), results(0, 2))
    assert list(parts.read_results(stored(path))) == results(0, 2)


def test_a_run_of_no_rows_has_all_columns(tmp_path: Path) -> None:
    """An empty input still gives results.parquet, with its schema."""
    target = tmp_path / "results.parquet"
    parts.merge([], stored(target), Layout(pa.schema([("id", pa.string())])))
    assert pq.read_table(target).column_names == ["input_id", *RESULT_SCHEMA.names]


def test_a_broken_part_is_named_with_the_way_on(tmp_path: Path) -> None:
    """Damage to a sealed part is loud."""
    path = part(tmp_path, 0, pa.table({"text": ["a"]}), results(0, 1))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LedgerError, match=r"part-00000\.parquet.*Set it aside"):
        parts.merge([stored(path)], stored(tmp_path / "results.parquet"), Layout(pa.schema([("text", pa.string())])))


def test_a_flipped_bit_in_a_part_is_found(tmp_path: Path) -> None:
    """Pages have checksums and the footer is checked: damage is an error that names the part, never another answer."""
    path = part(tmp_path, 0, pa.table({"text": ["a", "b"]}), results(0, 2))
    data = path.read_bytes()
    honest = list(parts.read_results(stored(path)))
    seen = 0
    # the header of what the footer keeps is a few bytes: there every bit counts
    kept = data.index(b"batchrun.tally")
    heads = [*range(kept - 6, kept), data.index(b"batchrun.bills") + len("batchrun.bills")]
    flips = [(place, place % 8) for place in range(0, len(data), 17)] + [
        (place, bit) for place in heads for bit in range(8)
    ]
    for place, bit in flips:
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
        try:
            found = list(parts.read_results(stored(path)))
        except LedgerError as error:
            assert "part-00000.parquet" in str(error)
            seen += 1
        else:
            assert found == honest
    assert seen > len(flips) / 2


def test_a_parts_numbers_stand_in_its_footer(tmp_path: Path) -> None:
    """What `status` shows of a sealed shard is read from the footer, and counted where a part has none."""
    found = results(0, 2)
    found[1] = msgspec.structs.replace(found[1], status="failed", error_kind="server")
    path = part(tmp_path, 0, pa.table({"text": ["a", "b"]}), found)
    tally = parts.read_tally(stored(path))
    assert (tally.ok, tally.failed, tally.cost) == (1, {"server": 1}, 14_000_003)
    merged = tmp_path / "results.parquet"
    parts.merge([stored(path)], stored(merged), Layout(pa.schema([("text", pa.string())])))
    assert parts.read_tally(stored(merged)) == tally
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert parts.read_tally(stored(path)) == tally


def test_what_results_cost_is_kept_to_the_pico_dollar(tmp_path: Path) -> None:
    """The cost, its prompts' share and its price's source come back from a part, a merged file and one that was split."""
    costs = [(0, 0, "job"), (1, 1, "a"), (123_456_789_012_345, 5, "job"), (None, None, "none: why"), (None, None, None)]
    found = [
        msgspec.structs.replace(one, cost=cost, input_cost=share, price_source=source)
        for one, (cost, share, source) in zip(results(0, 5), costs, strict=True)
    ]
    tables = [pa.table({"text": ["a"] * 2}), pa.table({"text": ["c"] * 3})]
    paths = [part(tmp_path, 0, tables[0], found[:2]), part(tmp_path, 1, tables[1], found[2:])]
    merged = tmp_path / "results.parquet"
    parts.merge(map(stored, paths), stored(merged), Layout(tables[0].schema))
    assert list(parts.read_results(stored(merged))) == found
    parts.split(stored(merged), map(stored, paths))
    assert [one for path in paths for one in parts.read_results(stored(path))] == found
    assert parts.sums([stored(merged)], ["cost_usd"]) == {"cost_usd": sum(cost or 0 for cost, _share, _source in costs)}


def test_of_an_older_file_the_cost_is_known_and_no_share(tmp_path: Path) -> None:
    """A file that keeps nothing beside its columns is read as it is."""
    path = part(tmp_path, 0, pa.table({"text": ["a"]}), results(0, 1))
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    read = next(parts.read_results(stored(path)))
    assert (read.cost, read.input_cost, read.price_source) == (7_000_001, None, None)


def vector(*numbers: float) -> bytes:
    return array("d", numbers).tobytes()


def test_vectors_are_read_back_as_they_were(tmp_path: Path) -> None:
    """One vector, several of different counts, and none: in columns of their own, bit for bit, also merged and split."""
    sets = [[vector(0.1, -3e-9)], None, [vector(1), vector(2)], [vector(0.5)] * 3, None]
    found = [msgspec.structs.replace(one, embeddings=given) for one, given in zip(results(0, 5), sets, strict=True)]
    paths = []
    for number, (first, last) in enumerate(((0, 2), (2, 5))):
        inputs = pa.table({"embedding": ["mine"] * (last - first)})
        path = tmp_path / f"part-{number:05d}.parquet"
        layout = Layout(inputs.schema, raw=True, embeddings=True)
        parts.write_part(stored(path), layout, inputs, 1, found[first:last])
        paths.append(path)
    merged = tmp_path / "results.parquet"
    parts.merge(map(stored, paths), stored(merged), layout)
    assert list(parts.read_results(stored(merged))) == found
    assert [one.embeddings for one in parts.read_results(stored(merged), whole=False)] == [None] * 5
    table = pq.read_table(merged)
    assert table.column_names[0] == "input_embedding"
    assert table.column_names[-3:] == ["embedding", "embeddings", "response"]
    assert table["embedding"].to_pylist() == [[0.1, -3e-9], None, None, None, None]
    assert table["embeddings"].to_pylist() == [None, None, [[1], [2]], [[0.5]] * 3, None]
    parts.split(stored(merged), map(stored, paths))
    assert [one for path in paths for one in parts.read_results(stored(path))] == found


def test_an_inputs_own_embedding_is_no_vector(tmp_path: Path) -> None:
    """A job without embeddings keeps its columns, an input's `embedding` under its own name."""
    path = part(tmp_path, 0, pa.table({"embedding": [[0.5]], "embeddings": [[[0.5]]]}), results(0, 1))
    assert pq.read_table(path).column_names[:2] == ["embedding", "embeddings"]
    assert list(parts.read_results(stored(path))) == results(0, 1)


def test_a_column_that_came_later_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an earlier version is read without the columns that it can't have; one that lost a column is damaged."""
    monkeypatch.setattr(sealed, "LATER", frozenset({"refusal"}))
    path = part(tmp_path, 0, pa.table({"text": ["a", "b"]}), results(0, 2))
    table = pq.read_table(path).drop_columns(["refusal"])
    kept = {key: value for key, value in table.schema.metadata.items() if key != b"batchrun.columns"}
    pq.write_table(table, path)
    with pytest.raises(LedgerError, match="not named as they were"):
        list(parts.read_results(stored(path)))
    pq.write_table(table.replace_schema_metadata(kept), path)
    assert list(parts.read_results(stored(path))) == results(0, 2)


def test_rows_without_a_column_make_a_part(tmp_path: Path) -> None:
    """An input of rows that have no columns at all has results like any other."""
    path = part(tmp_path, 0, pa.table({}), results(0, 2, samples=2), per_row=2)
    assert pq.read_table(path).column_names == RESULT_SCHEMA.names
    assert list(parts.read_results(stored(path))) == results(0, 2, samples=2)


def test_a_part_that_cannot_be_read_back_is_not_published(tmp_path: Path) -> None:
    """Arrow writes what it can't read; then nothing stands under the part's name, and the journal is not given up."""
    with pytest.raises(
        LedgerError, match=r"part-00000\.parquet: what was written cannot be read back.*Nothing is lost"
    ):
        part(tmp_path, 0, DEEP, results(0, 1))
    assert list(tmp_path.iterdir()) == []


def test_the_answers_of_a_part_that_is_too_deep_are_read(tmp_path: Path) -> None:
    """An earlier version wrote parts that readers can't open: their answers are taken over, and are not paid for again."""
    path = tmp_path / "part-00000.parquet"
    pq.write_table(Layout(DEEP.schema).table(DEEP, results(0, 1)), path)
    known = msgspec.structs.replace(results(0, 1)[0], input_cost=None, price_source=None)
    assert list(parts.read_results(stored(path))) == [known]
    assert not sealed.is_whole(stored(path))


def test_a_column_that_no_part_can_hold_is_found_before_anything_is_sent() -> None:
    """A type that Parquet can't write, or read again, is a fault of the input that names the column."""
    fine = pa.field("fine", pa.int64())
    sealed.check_storable(Layout(pa.schema([fine])))
    with pytest.raises(JobError, match=r"column `bad` cannot be kept in the results"):
        sealed.check_storable(Layout(pa.schema([fine, pa.field("bad", pa.struct([]))])))
