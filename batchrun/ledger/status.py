"""How far a run is, read from its directory alone: also while it runs, from another process. Takes no lock."""

from typing import Any

from batchrun.errors import JobError, LedgerError
from batchrun.ledger.journal import opened_line
from batchrun.ledger.parts import count_results
from batchrun.ledger.run_dir import RunDir


def read_status(path: str) -> dict[str, Any]:
    """The state and the counts. `state` is running, complete or stopped; a writer that died leaves `interrupted`."""
    run_dir = RunDir(path)
    manifest = run_dir.read_manifest()
    if manifest is None:
        raise JobError(f"{path}: no run there (no run.json); give a run directory")
    counts = manifest.counts
    state = manifest.state
    ok, failed = counts.ok, counts.failed
    if state != "complete":
        state = "running" if run_dir.locked_by_another() else "interrupted" if state == "running" else state
        ok, failed = _count(run_dir)
    return {
        "path": path,
        "state": state,
        "requests": counts.requests,
        "done": ok + failed,
        "ok": ok,
        "failed": failed,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "message": manifest.message if state == "stopped" else None,
    }


def _count(run_dir: RunDir) -> tuple[int, int]:
    ok = failed = 0
    for number in sorted(run_dir.sealed()):
        try:
            good, bad = count_results(run_dir.part(number))
        except LedgerError:
            continue
        ok, failed = ok + good, failed + bad
    seen: dict[tuple[int, str, int], bool] = {}
    for number in sorted(run_dir.open_journals() - run_dir.sealed()):
        try:
            lines = run_dir.journal(number).read_bytes().split(b"\n")
        except FileNotFoundError:  # sealed between the listing and the reading
            continue
        for line in lines:
            record = opened_line(line) if line.startswith(b'{"result"') else None
            if record is not None and record.result is not None:
                seen[record.result.key] = record.result.status == "ok"
    good = sum(seen.values())
    return ok + good, failed + len(seen) - good
