"""What is told of a run that ends before it is complete: how far it has come, and the end that a signal makes of it."""

import contextlib

import msgspec

from batchrun.errors import LedgerError
from batchrun.events import Ended
from batchrun.interrupts import Interrupts
from batchrun.ledger.held import Held
from batchrun.ledger.manifest import Counts
from batchrun.ledger.run_dir import RunDir
from batchrun.report.log import Log
from batchrun.report.status import read_progress
from batchrun.runner.outcome import Outcome


def counted(run_dir: RunDir, requests: int) -> Counts:
    """Where a run stands that is not complete. Raises LedgerError."""
    tally = read_progress(run_dir).tally
    return Counts(requests, tally.ok, sum(tally.failed.values()))


def interrupted(run_dir: RunDir, interrupts: Interrupts) -> Outcome:
    """The outcome of a run that a signal cut short outside of its asking: while it scanned, prepared or merged. The lock
    is held by the caller.
    """
    manifest = run_dir.read_manifest()
    counts = Counts() if manifest is None else manifest.counts
    if manifest is not None and manifest.state == "running":
        with contextlib.suppress(LedgerError):
            counts = counted(run_dir, counts.requests)
            run_dir.write_manifest(
                msgspec.structs.replace(
                    manifest, state="stopped", message=interrupts.message, counts=counts, stop="signal"
                )
            )
        Log(run_dir).hear(Ended(counts.ok, counts.failed, interrupts.message, interrupts.exit_code))
    return Outcome(
        run_dir.url,
        counts.requests,
        counts.ok,
        counts.failed,
        0,
        interrupts.exit_code,
        interrupts.message,
        Held(run_dir),
    )
