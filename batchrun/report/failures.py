"""Failed requests by kind and message: how many there are of each, an example, and what to do.

Messages that differ only in numbers, ids and quoted texts are one. Knows results alone; asks nobody.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from batchrun.errors import Kind
from batchrun.ledger import sealed
from batchrun.ledger.layout import result_names
from batchrun.ledger.parts import read_tally
from batchrun.ledger.store import Stored
from batchrun.records import Result

_COLUMNS = ("row", "id", "variant", "sample", "request_hash", "status", "attempts")
_ERRORS = ("error_kind", "error_status", "error_message")
_MOST_GROUPS = 500
"""So many groups are told apart; what comes later is counted by its kind alone."""
_OTHERS = "(other messages)"

REMEDIES = {
    Kind.CONNECT: "check that the endpoint is up and [endpoint] base_url is right, then run with --retry-failed",
    Kind.TIMEOUT: "raise [timeouts] total, first_token or between_tokens (--timeout), or lower max_tokens, then --retry-failed",
    Kind.DISCONNECTED: "a server or proxy closed the connection: --retry-failed asks again; a stream (--stream) keeps it busy",
    Kind.RATE_LIMITED: "lower --rpm, --tpm or --concurrency, then --retry-failed",
    Kind.SERVER: "a fault of the endpoint: --retry-failed asks again, later",
    Kind.MALFORMED: "the answer was no completion: check base_url with `batchrun check`, then --retry-failed",
    Kind.EMPTY_OUTPUT: 'raise max_tokens (reasoning uses it too), or take empty answers with [retry] empty = "ok"',
    Kind.BAD_REQUEST: "the endpoint refuses these requests as they are: change the row, the prompt or [params]",
    Kind.CONTENT_FILTER: "the endpoint's filter refuses these prompts: change the rows, or ask another model",
    Kind.NOT_FOUND: "check [endpoint] base_url and model (--base-url, --model)",
    Kind.CREDENTIALS: "check the key and what it may use, or what the named firewall or proxy allows, then --retry-failed",
    Kind.CREDIT: "top up the account, or raise its limit, then --retry-failed",
    Kind.BAD_ROW: "correct the row in the input, then run the same command again",
}
"""What a person can do about the failures of a kind."""

_QUOTED = re.compile(r"\"[^\"\n]{1,500}\"|(?<!\w)'[^'\n]{1,500}'(?!\w)|`[^`\n]{1,500}`|“[^”\n]{1,500}”")
_IDS = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{8,}\b")
_NUMBERS = re.compile(r"(?<!\bHTTP )(?<![\d.])\d+(?:[.,:]\d+)*")


class Group(msgspec.Struct):
    """Failures of one kind and message. `message` is what they share, `example` the first of them."""

    kind: str
    message: str
    count: int
    example: Result

    @property
    def remedy(self) -> str:
        """What to do, empty for a kind of a version that is not known here."""
        return REMEDIES[Kind(self.kind)] if self.kind in set(Kind) else ""

    def shown(self) -> dict[str, Any]:
        """The group for `--json`."""
        one = self.example
        example = {"row": one.row, "id": one.id, "variant": one.variant, "sample": one.sample}
        return {
            "kind": self.kind,
            "message": self.message,
            "count": self.count,
            "example": {**example, "status": one.error_status, "attempts": one.attempts, "message": one.error_message},
            "remedy": self.remedy,
        }


def folded(message: str) -> str:
    """A message without what differs from row to row: numbers, ids and quoted texts."""
    plain = " ".join(message.split())
    return _NUMBERS.sub("#", _IDS.sub("#", _QUOTED.sub('"…"', plain)))


def grouped(failed: Iterable[Result]) -> list[Group]:
    """Failed results by kind and message, the most frequent first."""
    groups: dict[tuple[str, str], Group] = {}
    for one in failed:
        kind, message = one.error_kind or "unknown", folded(one.error_message or "")
        if (kind, message) not in groups and len(groups) >= _MOST_GROUPS:
            message = _OTHERS
        group = groups.setdefault((kind, message), Group(kind, message, 0, one))
        group.count += 1
        if one.key < group.example.key:
            group.example = one
    return sorted(groups.values(), key=lambda group: (-group.count, group.example.key))


def failed_in(files: Iterable[Stored]) -> Iterator[Result]:
    """The failed results of sealed files; of those that have none only the footer is read."""
    for file in files:
        if not read_tally(file).failed:
            continue
        with sealed.open_checked(file) as opened:
            names = set(result_names(opened.schema_arrow.names))
            wanted = [name for name in (*_COLUMNS, *_ERRORS) if name in names]
            for batch in opened.iter_batches(1 << 14, columns=wanted):
                for place, status in enumerate(batch.column("status").to_pylist()):
                    if status != "ok":
                        yield Result(**{name: batch.column(name)[place].as_py() for name in wanted})
