"""How far a run is, read from its directory alone: also while it runs, from another process. Takes no lock.

The numbers of sealed shards stand in their parts' footers; open shards are read from their journals.
"""

import datetime
import re
import time
from pathlib import Path
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.durable import disk_faults
from batchrun.ledger.footer import Tally
from batchrun.ledger.journal import Key, opened_line
from batchrun.ledger.parts import read_tally
from batchrun.ledger.run_dir import Manifest, RunDir
from batchrun.money import usd
from batchrun.records import Result

_RATE_OVER_S = 60.0
_SINCE = "%Y-%m-%d %H:%M:%S %z"


class Progress(msgspec.Struct):
    """What a run has come to. `in_flight` are attempts with no end yet; `recent` counts the results of the last minute."""

    tally: Tally
    in_flight: int = 0
    recent: float = 0.0


def read_progress(run_dir: RunDir, now: float | None = None) -> Progress:
    """Count parts and open journals. `now` is in seconds since the epoch."""
    moment = int((time.time() if now is None else now) * 1e6)
    found = Progress(Tally())
    sealed = run_dir.sealed()
    for number in sorted(run_dir.open_journals() - sealed):
        _add_journal(found, run_dir.journal(number), moment)
    for number in sorted(run_dir.sealed()):
        try:
            tally = read_tally(run_dir.part(number))
        except LedgerError:
            continue  # set aside or merged since it was listed, or damaged: the run itself will say so
        found.tally.take(tally)
        found.recent += _recent(tally, moment)
    return found


def read_status(path: str) -> dict[str, Any]:
    """The state, the counts, the pace and the money. `state` is running, paused, complete or stopped; a writer that died leaves
    `interrupted`. Of a paused run `since` (RFC 3339) and `why` say more. Raises JobError where there is no run.
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
    rate = found.recent / _window_s(manifest) if state == "running" else None
    waits = run_dir.said() if state == "running" else ""
    since, why = _pause(waits)
    left = requests - tally.ok - failed
    return {
        "path": run_dir.url,
        "state": state if since is None else "paused",
        "since": since,
        "why": why,
        "requests": requests,
        "done": tally.ok + failed,
        "ok": tally.ok,
        "failed": failed,
        "failed_by_kind": tally.failed,
        "empty": tally.empty,
        "in_flight": found.in_flight if state != "complete" else 0,
        "spent_usd": None if tally.unpriced and not tally.cost else usd(tally.cost),
        "unpriced": tally.unpriced,
        "rate_per_s": None if rate is None else round(rate, 3),
        "eta_s": round(left / rate, 1) if rate and not waits else None,
        "started_at": manifest.started_at,
        "resumed_at": manifest.resumed_at,
        "finished_at": manifest.finished_at,
        "message": manifest.message if state == "stopped" else waits or None,
    }


def paused(why: str) -> str:
    """What a run lets others know that is paused from now on."""
    return f"paused since {time.strftime(_SINCE)}, {why}"


def _pause(said: str) -> tuple[str | None, str | None]:
    """Since when a run is paused and why, from what it lets others know; None where it is not."""
    found = re.match(r"paused since (\S+ \S+) ([+-]\d{4}), (.*)", said, re.DOTALL)
    if found is None:
        return None, None
    try:
        return datetime.datetime.fromisoformat(found[1] + found[2]).isoformat(), found[3]
    except ValueError:
        return None, None


def state_of(run_dir: RunDir, manifest: Manifest) -> str:
    """`running`, `complete`, `stopped`, or `interrupted` where its writer died. Of a run in a bucket whose working state is
    another machine's, only what its manifest says is known.
    """
    state = manifest.state
    if state != "complete" and (run_dir.is_local or run_dir.state.exists()):
        state = "running" if run_dir.locked_by_another() else "interrupted" if state == "running" else state
    return state


def _of_complete(run_dir: RunDir, manifest: Manifest) -> Progress:
    """A complete run's numbers, from the footers of its results, or the manifest and the cost summary where a file is gone."""
    found = Progress(Tally())
    try:
        for file in run_dir.result_files():
            found.tally.take(read_tally(file))
    except LedgerError:
        found = Progress(Tally(ok=manifest.counts.ok, failed={"unknown": manifest.counts.failed}))
    return found


def _window_s(manifest: Manifest) -> float:
    """Over how long the pace is measured: the last minute, or since this call began."""
    began = datetime.datetime.fromisoformat(manifest.resumed_at or manifest.started_at)
    since = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    return min(_RATE_OVER_S, max(since, 1.0))


def _add_journal(found: Progress, path: Path, moment: int) -> None:
    with disk_faults(path):
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:  # sealed between the listing and the reading
            return
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
        found.recent += _ended(result) > moment - _RATE_OVER_S * 1e6


def _ended(result: Result) -> float:
    return (result.started_at or 0) + (result.latency_s or 0.0) * 1e6


def _recent(tally: Tally, moment: int) -> float:
    """About how many results of a sealed shard came in the last minute, taking them as evenly spread over its time."""
    if tally.since is None or tally.until is None:
        return 0.0
    edge = moment - _RATE_OVER_S * 1e6
    span = max(1, tally.until - tally.since)
    share = (tally.until - max(edge, tally.since)) / span
    return max(0.0, min(1.0, share)) * (tally.ok + sum(tally.failed.values()))
