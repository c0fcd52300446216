"""Single results out of sealed files, without reading the rest of them."""

from collections.abc import Iterator
from typing import Any

from batchrun.ledger import sealed
from batchrun.ledger.store import Stored


def tables(file: Stored, column: str, value: int | str) -> Iterator[Any]:
    """The results in a file that have `value` in a column of theirs, whole, as a pyarrow Table for each row group."""
    with sealed.open_checked(file) as opened:
        place = opened.schema_arrow.names.index(column)
        for number in range(opened.num_row_groups):
            if not _may_have(opened.metadata.row_group(number), column, value):
                continue
            values = opened.read_row_group(number, columns=[opened.schema_arrow.names[place]])[column].to_pylist()
            rows = [row for row, one in enumerate(values) if one == value]
            if rows:
                yield sealed.group(opened, number).take(rows)


def _may_have(group: Any, column: str, value: int | str) -> bool:
    """Whether a row group's statistics allow for a value; those of texts are not relied upon."""
    if isinstance(value, str):
        return True
    found = (group.column(place) for place in range(group.num_columns))
    statistics = next((one.statistics for one in found if one.path_in_schema == column), None)
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= value <= statistics.max)
