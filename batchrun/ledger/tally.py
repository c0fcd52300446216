"""What results come to, in a few numbers. Loads nothing of Parquet: `status` often needs no more than this."""

import msgspec

from batchrun.ledger.account import Account
from batchrun.records import Result


class Tally(msgspec.Struct):
    """What results come to, in a few numbers, so that `status` need not read them.

    `cost` is in pico-dollars, `unpriced` are the results with tokens and no known price, `tokens` are those of all. `since` and
    `until` are when the first request was sent and the last answer was whole, in microseconds since the epoch; None where nothing
    was sent. `empty` are the answers with nothing in them that count as `ok`, by finish reason. `account` is that of the journal
    that the results were sealed from, None in files of older versions.
    """

    ok: int = 0
    failed: dict[str, int] = {}
    cost: int = 0
    unpriced: int = 0
    since: int | None = None
    until: int | None = None
    empty: dict[str, int] = {}
    account: Account | None = None
    tokens: int = 0

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.status == "ok":
            self.ok += 1
            if result.is_empty:
                said = result.finish_reason or "none"
                self.empty[said] = self.empty.get(said, 0) + 1
        else:
            kind = result.error_kind or "unknown"
            self.failed[kind] = self.failed.get(kind, 0) + 1
        self.tokens += result.total_tokens or 0
        if result.cost is not None:
            self.cost += result.cost
        elif result.total_tokens:
            self.unpriced += 1
        if result.started_at is not None:
            until = result.started_at + int((result.latency_s or 0.0) * 1e6)
            self.since = result.started_at if self.since is None else min(self.since, result.started_at)
            self.until = until if self.until is None else max(self.until, until)

    def take(self, other: "Tally") -> None:
        """Count all that another has counted."""
        self.ok += other.ok
        self.cost += other.cost
        self.unpriced += other.unpriced
        self.tokens += other.tokens
        for kind, count in other.failed.items():
            self.failed[kind] = self.failed.get(kind, 0) + count
        for said, count in other.empty.items():
            self.empty[said] = self.empty.get(said, 0) + count
        self.since = min((one for one in (self.since, other.since) if one is not None), default=None)
        self.until = max((one for one in (self.until, other.until) if one is not None), default=None)

    def emptiness(self) -> str:
        """How many answers are empty, in words; nothing where none is."""
        if not self.empty:
            return ""
        said = ", ".join(f"{reason} {count}" for reason, count in sorted(self.empty.items()))
        return f"{sum(self.empty.values())} of {self.ok} answers are empty (finish_reason {said})"
