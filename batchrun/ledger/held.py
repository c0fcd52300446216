"""The files of a run as they were at one moment: whatever a run does to its directory later, they read the same.

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
from batchrun.ledger.lines import Line, opened_line
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import LocalStore, Stored
from batchrun.records import Result

_TRIES = 20
"""So often files are listed again that were sealed, merged or set aside before they were read."""


class Held:
    """What a run directory holds now. `results` are results.parquet or the parts in order, `summary` the bill where there
    is one, `place` where the results are, for people. `opens` says whether open shards are held too. It is one cut through a
    run that may be under way: each shard is in it once, sealed or open. Raises LedgerError where that can't be had.
    """

    def __init__(self, run_dir: RunDir, *, opens: bool = False) -> None:
        for _ in range(_TRIES):
            try:
                if self._take(run_dir, opens=opens):
                    return
            except FileNotFoundError:
                continue
        raise LedgerError(f"{run_dir.url}: its files change faster than they can be read; try again")

    def _take(self, run_dir: RunDir, *, opens: bool) -> bool:
        """Hold what is there. False, or FileNotFoundError, where something changed its place meanwhile.

        Journals are read before parts are listed: a shard that is sealed in between is in both, and none is in neither.
        """
        known = run_dir.open_journals() | run_dir.sealed() if opens else set()
        journals: dict[int, bytes] = {}
        for number in sorted(run_dir.open_journals()) if opens else ():
            with contextlib.suppress(OSError):  # sealed; or of a disk that failed: then it is the next call's affair
                journals[number] = run_dir.journal(number).read_bytes()
        is_whole, sealed = run_dir.results.exists(), run_dir.sealed()
        files = [run_dir.results] if is_whole else [run_dir.part(number) for number in sorted(sealed)]
        self.place = (
            f"{run_dir.url}/{run_dir.results.name}" if is_whole else f"{run_dir.url}/results/" if sealed else ""
        )
        self.results = _mapped(files)
        self.summary = next(iter(_mapped([run_dir.summary] if run_dir.summary.exists() else [])), None)
        self.numbers = [] if is_whole else sorted(sealed)
        self._journals = {} if is_whole else {one: data for one, data in journals.items() if one not in sealed}
        unreadable = {number for number in known if run_dir.journal(number).exists()}
        return is_whole or known <= sealed | set(journals) | unreadable

    def open_results(self) -> Iterator[tuple[int, list[Result]]]:
        """The results of the shards that were open, by the shard's number, sorted. Damaged journals are left out."""
        with tempfile.TemporaryDirectory() as folder:
            for number, data in self._journals.items():
                copy = Path(folder) / "journal"
                copy.write_bytes(data)
                with contextlib.suppress(LedgerError):
                    yield number, [one for _key, one in sorted(replay(copy).results.items())]

    def records(self, number: int) -> Iterator[Line]:
        """What the journal of an open shard says, record by record; nothing of a shard that is sealed. Damaged ones are left
        out.
        """
        for line in self._journals.get(number, b"").split(b"\n"):
            if (record := opened_line(line)) is not None:
                yield record


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
