"""Answers that were paid for before, found again by the hash of what was asked: of this run before its job or input
changed, and of other runs (`reuse`).

Identity is the content of a request, not its place (contract.md §7.2). Each answer is drawn at most once: two rows that
ask the same thing are two requests. The index is a file, so that memory does not grow with it; it can be made anew at
any time, and so needs no care for crashes.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from batchrun.ledger.durable import disk_faults
from batchrun.ledger.journal import replay
from batchrun.ledger.parts import read_results
from batchrun.records import Request, Result

_TABLE = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE answer (identity BLOB PRIMARY KEY, hash TEXT NOT NULL, number INTEGER NOT NULL, result BLOB NOT NULL);
CREATE INDEX by_hash ON answer (hash, number);
"""
_decode = msgspec.json.Decoder(Result).decode
_encode = msgspec.json.Encoder().encode


class Pool:
    """The `ok` results in files, less those that stand in the run already. `close` removes the index."""

    def __init__(self, path: Path, offered: Iterable[Path], standing: Iterable[Path]) -> None:
        self._path = path
        self._forget()
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(_TABLE)
            self._db.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", _answers(offered))
            # an answer that was drawn already must not be drawn again
            self._db.executemany("DELETE FROM answer WHERE identity = ?", ((_identity(one),) for one in _ok(standing)))
        except sqlite3.OperationalError as error:
            with disk_faults(path):
                raise OSError(error.sqlite_errorcode, str(error)) from error

    def draw(self, request: Request) -> Result | None:
        """An earlier answer to just this request, in its new place; None where there is none left."""
        found = self._db.execute(
            "SELECT identity, result FROM answer WHERE hash = ? ORDER BY number LIMIT 1", (request.hash,)
        ).fetchone()
        if found is None:
            return None
        self._db.execute("DELETE FROM answer WHERE identity = ?", (found[0],))
        place = {"row": request.row, "id": request.id, "variant": request.variant, "sample": request.sample}
        return msgspec.structs.replace(_decode(found[1]), **place, asked_model=request.model)

    def close(self) -> None:
        self._db.close()
        self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def result_files(folder: Path) -> list[Path]:
    """Everything in a folder of set-aside files, or in a run directory, that holds results."""
    found = [folder / "results.parquet", *sorted(folder.glob("part-*.parquet"))]
    found += sorted((folder / "results").glob("part-*.parquet"))
    found += sorted(folder.glob("journal-*.jsonl")) + sorted((folder / ".state").glob("journal-*.jsonl"))
    return [path for path in found if path.exists()]


def _answers(files: Iterable[Path]) -> Iterator[tuple[bytes, str, int, bytes]]:
    for number, result in enumerate(_ok(files)):
        yield _identity(result), result.request_hash, number, _encode(result)


def _ok(files: Iterable[Path]) -> Iterator[Result]:
    for path in files:
        results = read_results(path) if path.suffix == ".parquet" else replay(path).results.values()
        yield from (result for result in results if result.status == "ok")


def _identity(result: Result) -> bytes:
    """What tells one paid answer from another, wherever it is stored."""
    kept = (result.request_hash, result.started_at, result.response_id, result.completion)
    return hashlib.blake2b(_encode(kept), digest_size=16).digest()
