"""Results that were come to before, found again by the hash of what was asked: of this run before its job or input
changed, and of other runs (`reuse`).

Identity is the content of a request, not its place (contract.md §7.2). Each answer is drawn at most once: two rows that
ask the same thing are two requests. The index is a file, so that memory does not grow with it; it can be made again at
any time, and so needs no care for crashes.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from batchrun.errors import LedgerError
from batchrun.ledger.durable import create, disk_faults
from batchrun.ledger.lines import Carried, attempts_of, identity_of
from batchrun.ledger.parts import read_results
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import Stored
from batchrun.money import Cost
from batchrun.records import Request, Result

_TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE answer (
  identity TEXT PRIMARY KEY, hash TEXT NOT NULL, failed INTEGER NOT NULL, number INTEGER NOT NULL, result BLOB NOT NULL
);
CREATE INDEX by_hash ON answer (hash, failed, number);
CREATE TABLE attempts (
  identity TEXT PRIMARY KEY, hash TEXT NOT NULL,
  failed INTEGER NOT NULL, unconfirmed INTEGER NOT NULL, input INTEGER, output INTEGER
);
CREATE INDEX attempts_by_hash ON attempts (hash);
"""
_decode = msgspec.json.Decoder(Result).decode
_encode = msgspec.json.Encoder().encode


_Attempts = tuple[str, str, int, int, int | None, int | None]
"""A row of the table: identity and hash, attempts failed and unconfirmed, what they cost.

Their identity goes with them: a change, or a --retry-failed, that was cut short leaves them in two files.
"""


class Offer(NamedTuple):
    """A file to draw from: its `ok` answers always; where it is `fresh`, set aside by the change that is being made, its
    failures too (they are neither new nor changed) and the attempts of what it had no result for.
    """

    file: Stored | Path
    fresh: bool


class Pool:
    """What files offer, less what stands in the run already. `close` removes the index.

    Failures that are `retried` (see Result.is_retried) are not drawn: their attempts are carried over to the request that
    is asked again. `check` is called for every result, and raises when the run is told to end.
    """

    def __init__(
        self,
        path: Path,
        offers: Sequence[Offer],
        standing: Iterable[Stored | Path],
        *,
        retried: frozenset[str] | None,
        check: Callable[[], None],
    ) -> None:
        self._path = path
        self._check = check
        self._carried: list[_Attempts] = []
        self._forget()
        with self._faults(), disk_faults(path):
            create(path)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?, ?)", self._answers(offers, retried))
            self._db.executemany(
                "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", [*self._carried, *self._unfinished(offers)]
            )
            # a failure that may be drawn has its attempts with it
            self._db.execute("DELETE FROM attempts WHERE identity IN (SELECT identity FROM answer)")
            # what was drawn already must not be drawn again
            for file in standing:
                self._forget_drawn(file)
            self._db.execute("COMMIT")

    def _forget_drawn(self, file: Stored | Path) -> None:
        drawn = ((identity_of(one),) for one in self._results(file))
        self._db.executemany("DELETE FROM answer WHERE identity = ?", drawn)
        if isinstance(file, Path):
            carried = ((tally.origin,) for tally in replay(file).tallies.values() if tally.origin)
            self._db.executemany("DELETE FROM attempts WHERE identity = ?", carried)

    def _answers(
        self, offers: Iterable[Offer], retried: frozenset[str] | None
    ) -> Iterator[tuple[str, str, bool, int, bytes]]:
        """Rows of the index. The attempts of what is not to be drawn are noted on the way."""
        number = 0
        for file, fresh in offers:
            for result in self._results(file):
                failed = result.status != "ok"
                if failed and (not fresh or not result.request_hash):
                    continue
                if result.is_retried(retried):
                    self._carried.append(_attempts(result))
                    continue
                number += 1
                yield identity_of(result), result.request_hash, failed, number, _encode(result)

    def _results(self, file: Stored | Path) -> Iterator[Result]:
        for result in replay(file).results.values() if isinstance(file, Path) else read_results(file):
            self._check()
            yield result

    def _unfinished(self, offers: Iterable[Offer]) -> Iterator[_Attempts]:
        """The attempts of requests that had no result yet when their journal was set aside."""
        for file, fresh in offers:
            if fresh and isinstance(file, Path):
                found = replay(file)
                for key, tally in found.tallies.items():
                    if key not in found.results:
                        cost = tally.cost or (None, None)
                        own = f"{file.parent.name}/{file.name} {key}"
                        identity = (tally.only_carried and tally.origin) or own
                        yield identity, tally.hash, tally.failed, tally.sent - tally.failed, *cost

    def draw(self, request: Request) -> Result | None:
        """An earlier result of just this request, in its new place, `ok` ones first; None where there is none left."""
        with self._faults():
            found = self._db.execute(
                "SELECT identity, result FROM answer WHERE hash = ? ORDER BY failed, number LIMIT 1", (request.hash,)
            ).fetchone()
            if found is None:
                return None
            self._db.execute("DELETE FROM answer WHERE identity = ?", (found[0],))
        place = {"row": request.row, "id": request.id, "variant": request.variant, "sample": request.sample}
        return msgspec.structs.replace(_decode(found[1]), **place, asked_model=request.model)

    def draw_attempts(self, request: Request) -> Carried | None:
        """Attempts that were made at this request before, elsewhere; None where there were none."""
        with self._faults():
            found: _Attempts | None = self._db.execute(
                "SELECT * FROM attempts WHERE hash = ? ORDER BY rowid LIMIT 1", (request.hash,)
            ).fetchone()
            if found is None:
                return None
            self._db.execute("DELETE FROM attempts WHERE identity = ?", (found[0],))
        identity, _hash, failed, unconfirmed, prompts, answers = found
        cost = None if prompts is None or answers is None else Cost(prompts, answers)
        return Carried(*request.key, request.hash, failed, unconfirmed, cost, identity)

    def close(self) -> None:
        self._db.close()
        self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):  # it is made again, over this one, whenever it is needed
            self._path.unlink()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LedgerError(
                f"{self._path}: {error}; check that its disk can be written and has space and quota left, then run the "
                "same command again"
            ) from error


def results_of(run_dir: RunDir) -> list[Stored | Path]:
    """Everything that holds an answer in another run's directory: what stands in it and what it set aside."""
    older = [file for name in run_dir.superseded() for file in run_dir.superseded_files(name)]
    return [*run_dir.all_results(), *older]


def _attempts(result: Result) -> _Attempts:
    """A failure's attempts."""
    failed, unconfirmed, cost = attempts_of(result)
    return identity_of(result), result.request_hash, failed, unconfirmed, *(cost or (None, None))
