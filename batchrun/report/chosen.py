"""Which results a copy takes, and which of their columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from batchrun.errors import JobError
from batchrun.names import nearest
from batchrun.report import plain
from batchrun.rows.condition import Condition


class Chosen:
    """`where` is a condition on the columns of results, `columns` are the names of those that are taken, in that order; None
    takes all. Raises JobError for a condition that is none.
    """

    def __init__(self, where: str | None = None, columns: Sequence[str] | None = None) -> None:
        self._where = None if where is None else Condition(where)
        self._columns = None if columns is None else list(dict.fromkeys(columns))

    def schema(self, schema: Any) -> Any:
        """The columns that are taken. Raises JobError for one that there is not."""
        if self._where is not None and self._where.columns is not None:
            self._known(self._where.columns, schema.names, "--where")
        if self._columns is None:
            return schema
        self._known(self._columns, schema.names, "--columns")
        return pa.schema([schema.field(name) for name in self._columns], schema.metadata)

    def of(self, tables: Iterable[Any]) -> Iterator[Any]:
        """The tables with what is taken of them; those of which nothing is are left out. Raises JobError where the condition
        can't be told.
        """
        for table in tables:
            taken = table if self._where is None else table.filter(self._mask(table, self._where))
            if taken.num_rows:
                yield taken if self._columns is None else taken.select(self._columns)

    def _mask(self, table: Any, where: Condition) -> Any:
        names = [name for name in table.column_names if where.columns is None or name in where.columns]
        if not names:
            return pa.array([where.holds({}, "the results")] * table.num_rows, pa.bool_())
        numbers = table["row"].to_pylist()
        rows = plain.rows(table.select(names))
        return pa.array([where.holds(row, f"row {n}") for n, row in zip(numbers, rows, strict=True)], pa.bool_())

    def _known(self, names: Iterable[str], there: Sequence[str], flag: str) -> None:
        for name in names:
            if name not in there:
                near = nearest(name, there)
                hint = f"did you mean `{near}`?" if near else f"columns: {', '.join(there)}"
                raise JobError(f"{flag}: the results have no column `{name}`; {hint}")
