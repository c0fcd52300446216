"""run.json: the job as it ran, and where the run stands, for people and for the next call."""

from typing import Any

import msgspec

from batchrun.ledger.tally import Tally

HIDDEN = "…"
"""What run.json keeps of a value that may be a secret."""


class Counts(msgspec.Struct, frozen=True):
    """Where a run stands."""

    requests: int = 0
    ok: int = 0
    failed: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """run.json. `requests` is the fingerprint of all that shapes a request's body; `input` names the files and their
    stamps; times are RFC 3339, UTC: `started_at` of the run's beginning, `resumed_at` of the latest call's. `endpoint`
    is the one that is asked, `state_dir` where the journal and the lock are. `nobody_answered` says that
    a run was stopped in which no request was ever answered: what has failed is no failure of its own, and the next call opens
    it again. `stop` is the
    kind of the latest call's stop (stop.Stop), empty where it was not stopped. `steered` are the limits that
    were changed while the latest call went on: a call from the directory alone keeps them. `tally` is what the results of a
    complete run come to; None in those of an earlier version. `given` are the settings beside the job file that shape a
    request, as they were given to the latest call.
    """

    state: str
    batchrun: str
    job: dict[str, Any]
    input: list[dict[str, Any]]
    requests: str
    started_at: str
    finished_at: str | None = None
    message: str | None = None
    counts: Counts = Counts()
    versions: dict[str, str] = {}
    resumed_at: str | None = None
    endpoint: str = ""
    state_dir: str = ""
    nobody_answered: bool = False
    stop: str = ""
    steered: dict[str, float] = {}
    tally: Tally | None = None
    given: dict[str, Any] = {}
    format: int = 1
