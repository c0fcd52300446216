"""What a run has spent so far: over crashes, changes of the job and retries. A budget that is hard begins with it."""

import re
from collections.abc import Iterator
from pathlib import Path

from batchrun.ledger.account import Account, account_in
from batchrun.ledger.parts import read_account
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import Stored

_NUMBER = re.compile(r"(?:part|journal)-(\d+)\.")


def spending(run_dir: RunDir) -> Account:
    """The account of a run, from its journals, parts and superseded files, once what a killed call has left is reconciled.
    Raises LedgerError where one can't be read.
    """
    total = Account()
    for file in _files(run_dir):
        total = total.plus(account_in(replay(file)) if isinstance(file, Path) else read_account(file))
    return total


def _files(run_dir: RunDir) -> Iterator[Stored | Path]:
    """Every file that recorded attempts, once: results.parquet has what its parts had, a part what its journal had."""
    yield from run_dir.result_files()
    for number in sorted(run_dir.open_journals() - run_dir.sealed()):
        yield run_dir.journal(number)
    for name in run_dir.superseded():
        files = run_dir.superseded_files(name)
        sealed = {_number(file.name) for file in files if isinstance(file, Stored)}
        yield from (file for file in files if isinstance(file, Stored) or _number(file.name) not in sealed)
    # copies of journals that were rewritten without their failures
    yield from sorted((run_dir.state / "superseded").glob("*/*.retried"))


def _number(name: str) -> str | None:
    found = _NUMBER.search(name)
    return found and found[1]
