"""How many answers there are to each request, counted over files that a run may be writing and sealing meanwhile.

What reuse.py would draw, without drawing it: nothing is written but a temporary file that SQLite removes, and no lock is
taken. Memory does not grow with it.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from batchrun.errors import LedgerError
from batchrun.ledger.lines import identity_of
from batchrun.ledger.parts import read_results
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import Stored
from batchrun.records import Result


class Stock:
    """Answers by what they answer, each once, wherever it stands. `retried` are failures that are not to be had (see
    Result.is_retried).
    """

    def __init__(self, retried: frozenset[str] | None = None) -> None:
        self._retried = retried
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;")
        self._db.execute("CREATE TABLE answer (identity BLOB PRIMARY KEY, hash TEXT, failed INTEGER) WITHOUT ROWID")
        self._db.execute("CREATE INDEX by_hash ON answer (hash, failed)")
        self._db.execute("BEGIN")

    def add(self, files: Iterable[Stored | Path], *, failures: bool) -> None:
        """Count what stands in files, its failures only where they count as results. Files that are gone are left out."""
        for file in files:
            rows = (
                (identity_of(one), one.request_hash, one.status != "ok")
                for one in _results(file)
                if one.status == "ok" or (failures and one.request_hash and not one.is_retried(self._retried))
            )
            self._db.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?)", rows)

    def take(self, request_hash: str) -> str | None:
        """Take one answer to a request, `ok` ones first: its status, None where there is none left."""
        found = self._db.execute(
            "SELECT identity, failed FROM answer WHERE hash = ? ORDER BY failed LIMIT 1", (request_hash,)
        ).fetchone()
        if found is None:
            return None
        self._db.execute("DELETE FROM answer WHERE identity = ?", (found[0],))
        return "failed" if found[1] else "ok"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._db.close()


def standing(run_dir: RunDir) -> Iterator[Stored | Path]:
    """Everything that holds a result of the present run. Each place is looked at when its turn has come, in the order in
    which a result moves on: from a journal into a part, from there into results.parquet.
    """
    for number in sorted(run_dir.open_journals()):
        yield run_dir.journal(number)
    for number in sorted(run_dir.sealed()):
        yield run_dir.part(number)
    if run_dir.results.exists():
        yield run_dir.results


def _results(file: Stored | Path) -> Iterator[Result]:
    try:
        yield from replay(file).results.values() if isinstance(file, Path) else read_results(file, whole=False)
    except LedgerError:
        if file.exists():
            raise
