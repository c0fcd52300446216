"""The files of a run as they were at one moment: whatever a later call does to the run directory, they read the same.

Published files are never written again but replaced, so a mapping of one keeps what it was. Of a run in a bucket only the
places are kept.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchrun.errors import LedgerError
from batchrun.ledger.journal import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result


class Held:
    """What a run directory holds now. `results` are results.parquet or the parts in order, `summary` the bill where there
    is one, `place` where the results are, for people. `opens` says whether open shards are held too.
    """

    def __init__(self, run_dir: RunDir, *, opens: bool = False) -> None:
        self.place = ""
        if run_dir.results.exists():
            self.place = f"{run_dir.url}/{run_dir.results.name}"
        elif run_dir.sealed():
            self.place = f"{run_dir.url}/results/"
        self.results = _mapped(run_dir.result_files())
        self.summary = next(iter(_mapped([run_dir.summary] if run_dir.summary.exists() else [])), None)
        self._journals: dict[int, bytes] = {}
        if opens:
            for number in sorted(run_dir.open_journals() - run_dir.sealed()):
                with contextlib.suppress(OSError):  # of a disk that failed: what it holds is the next call's affair
                    self._journals[number] = run_dir.journal(number).read_bytes()

    def open_results(self) -> Iterator[tuple[int, list[Result]]]:
        """The results of the shards that were open, by the shard's number, sorted. Damaged journals are left out."""
        with tempfile.TemporaryDirectory() as folder:
            for number, data in self._journals.items():
                copy = Path(folder) / "journal"
                copy.write_bytes(data)
                with contextlib.suppress(LedgerError):
                    yield number, [one for _key, one in sorted(replay(copy).results.items())]


class _Mapped(LocalStore):
    """Files of a folder, read from memory mappings."""

    def __init__(self, store: LocalStore, names: Sequence[str]) -> None:
        super().__init__(store.root)
        self._buffers = {}
        for name in names:
            with store.opened(name) as path, pa.memory_map(str(path)) as file:
                self._buffers[name] = file.read_buffer()

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        with pa.BufferReader(self._buffers[name]) as source:
            yield source


def _mapped(files: Sequence[Stored]) -> list[Stored]:
    if not files or not isinstance(files[0].store, LocalStore):
        return list(files)
    store = _Mapped(files[0].store, [file.name for file in files])
    return [Stored(store, file.name) for file in files]
