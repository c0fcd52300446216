"""What a call of a run came to, as its caller reads it. Reads the run directory, and never writes."""

from typing import Any

import msgspec

from batchrun.ledger import parts
from batchrun.ledger.run_dir import RunDir
from batchrun.report.summary import read_summary


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to. `exit_code` is contract.md §3's; `message` says why it stopped, None where it is complete.

    `asked` are the requests answered or failed in this call; the others had their result before. `path` names the run
    directory for people, `place` is how it was given: a bucket's URL may hold a key.
    """

    path: str
    requests: int
    ok: int
    failed: int
    asked: int
    exit_code: int
    message: str | None = None
    place: str = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cost summary, the total last; empty while the run is not complete."""
        summary = RunDir(self.place).summary
        return read_summary(summary) if summary.exists() else []

    @property
    def cost_usd(self) -> float | None:
        """The whole bill; None where no price is known or the run is not complete."""
        rows = self.rows
        return rows[-1]["cost_usd"] if rows else None

    @property
    def results(self) -> Any:
        """The results so far as a pyarrow Table, with the columns of contract.md §6."""
        return parts.read_table(RunDir(self.place).result_files())

    @property
    def results_path(self) -> str:
        """Where the results are, for people: the one file, or the folder of parts. Empty while there are none."""
        run_dir = RunDir(self.place)
        if run_dir.results.exists():
            return f"{self.path}/{run_dir.results.name}"
        return f"{self.path}/results/" if run_dir.sealed() else ""
