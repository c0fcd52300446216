"""Tables that are needed later, laid by in a file that has no name: memory holds none of them, and nothing is left behind."""

import tempfile
import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa

_SMALL = 64 << 10


class Shelved:
    """An arrow table, kept in an unnamed file of `folder`; in memory where it is small, or the file can't be written."""

    def __init__(self, table: Any, folder: Path) -> None:
        self._table: Any = table
        self._file: Any = None
        if table.nbytes > _SMALL:
            try:
                self._lay_by(table, folder)
            except OSError:
                return  # it is a convenience: what has to be durable is written elsewhere, and complains there
            self._table = None

    def table(self) -> Any:
        """The table, as it was. Raises OSError where its file can't be read."""
        if self._table is not None:
            return self._table
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            return reader.read_all()

    def _lay_by(self, table: Any, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is closed, and gone, with this
        weakref.finalize(self, self._file.close)
        with pa.ipc.new_stream(self._file, table.schema) as writer:
            writer.write_table(table)
        self._file.flush()
