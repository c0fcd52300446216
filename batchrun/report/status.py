"""How far a run is, read from its directory alone: also while it runs, from another process. Takes no lock.

The numbers of sealed shards stand in their parts' footers; open shards are read from their journals.
"""

import contextlib
import datetime
from pathlib import Path
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.durable import disk_faults
from batchrun.ledger.lines import Key, opened_line
from batchrun.ledger.manifest import Manifest
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.store import Stored
from batchrun.ledger.tally import Tally
from batchrun.money import usd
from batchrun.records import Result
from batchrun.report.standing import Live, read_live


class Progress(msgspec.Struct):
    """What a run has come to. `in_flight` are attempts with no end yet."""

    tally: Tally
    in_flight: int = 0


def read_progress(run_dir: RunDir) -> Progress:
    """Count the results, or parts and open journals."""
    if run_dir.results.exists():  # merged just now, or about to be split into parts: it has all
        with contextlib.suppress(LedgerError):
            return Progress(_tally_in(run_dir.results))
    found = Progress(Tally())
    opened = sorted(run_dir.open_journals() - run_dir.sealed())
    counted = {number for number in opened if _add_journal(found, run_dir.journal(number))}
    for number in sorted(run_dir.sealed() - counted):  # a shard may have been sealed since its journal was read
        try:
            tally = _tally_in(run_dir.part(number))
        except LedgerError:
            continue  # set aside or merged since it was listed, or damaged: the run itself will say so
        found.tally.take(tally)
    return found


def read_status(path: str) -> dict[str, Any]:
    """The state, the counts, the pace and the money. `state` is running, paused, complete or stopped; a writer that died leaves
    `interrupted`. Of a paused run `since`, `until` (RFC 3339; None where nobody knows) and `why` say more. Pace and time left are
    those that the run itself measures. Raises JobError where there is no run.
    """
    run_dir = RunDir(path)
    manifest = run_dir.read_manifest()
    if manifest is None:
        raise JobError(f"{path}: no run there (no run.json); give a run directory")
    run_dir = RunDir(path, manifest.state_dir or None)
    state = state_of(run_dir, manifest)
    found = _of_complete(run_dir, manifest) if state == "complete" else read_progress(run_dir)
    tally, requests = found.tally, manifest.counts.requests
    failed = sum(tally.failed.values())
    live = read_live(run_dir.said()) if state == "running" else Live()
    wait = live.wait
    return {
        "path": run_dir.url,
        "state": state if wait is None else "paused",
        "since": None if wait is None else _dated(wait.since),
        "until": None if wait is None or wait.until is None else _dated(wait.until),
        "why": None if wait is None else wait.why,
        "requests": requests,
        "done": tally.ok + failed,
        "ok": tally.ok,
        "failed": failed,
        "failed_by_kind": tally.failed,
        "empty": tally.empty,
        "in_flight": found.in_flight if state != "complete" else 0,
        "tokens": tally.tokens,
        "spent_usd": None if tally.unpriced and not tally.cost else usd(tally.cost),
        "unpriced": tally.unpriced,
        "rate_per_s": live.rate_per_s,
        "rate_over_s": live.over_s,
        "eta_s": live.eta_s,
        "started_at": manifest.started_at,
        "resumed_at": manifest.resumed_at,
        "finished_at": manifest.finished_at,
        "message": manifest.message if state == "stopped" else None if wait is None else wait.long,
    }


def _dated(epoch: float) -> str:
    """Seconds since the epoch as RFC 3339, with this machine's zone."""
    return datetime.datetime.fromtimestamp(epoch).astimezone().isoformat(timespec="seconds")


def state_of(run_dir: RunDir, manifest: Manifest) -> str:
    """`running`, `complete`, `stopped`, or `interrupted` where its writer died. Of a run in a bucket whose working state is
    another machine's, only what its manifest says is known.
    """
    state = manifest.state
    if state != "complete" and (run_dir.is_local or run_dir.state.exists()):
        state = "running" if run_dir.locked_by_another() else "interrupted" if state == "running" else state
    return state


def _of_complete(run_dir: RunDir, manifest: Manifest) -> Progress:
    """A complete run's numbers: those that its manifest keeps. One of an earlier version has fewer: there they are in the
    footers of the results.
    """
    if manifest.tally is not None:
        return Progress(manifest.tally)
    found = Progress(Tally())
    try:
        for file in run_dir.result_files():
            found.tally.take(_tally_in(file))
    except LedgerError:
        found = Progress(Tally(ok=manifest.counts.ok, failed={"unknown": manifest.counts.failed}))
    return found


def _tally_in(file: Stored) -> Tally:
    """What a sealed file comes to. Raises LedgerError."""
    from batchrun.ledger.parts import read_tally  # late: Parquet takes a while to load, and many runs need none of it

    return read_tally(file)


def _add_journal(found: Progress, path: Path) -> bool:
    """Count what a journal says; False where it is not there any more."""
    with disk_faults(path):
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:  # sealed between the listing and the reading
            return False
    results: dict[Key, Result] = {}
    under_way: dict[Key, int] = {}
    for line in lines:
        record = opened_line(line) if line else None
        if record is None:
            continue
        if record.result is not None:
            results[record.result.key] = record.result
            under_way.pop(record.result.key, None)
        elif (step := record.sent or record.lost or record.paid) is not None:
            key = (step.row, step.variant, step.sample)
            under_way[key] = under_way.get(key, 0) + (1 if record.sent is not None else -1)
    found.in_flight += sum(under_way.values())
    for result in results.values():
        found.tally.add(result)
    return True
