"""The records of a journal, and each as its line: JSON that jq reads, with a checksum.

A header with the number of the format; `sent` before an attempt goes on the wire, `lost` when it failed, `paid` for an answer
before anything judges it, `carried` for attempts that were made before the request came to stand here, and `result`.
"""

import hashlib

import msgspec

from batchrun.ledger.durable import with_checksum, without_checksum
from batchrun.money import Cost
from batchrun.records import Result

Key = tuple[int, str, int]


class Tally(msgspec.Struct):
    """The attempts of one request: sent, failed with nothing billed or billed for sure, failed with the answer lost. One
    whose answer is not the result, or not yet, counts as failed.

    `hash` is the identity of what was asked, `ceiling` the most that one attempt may have cost, in pico-dollars (None
    where that is unknown). `cost` is what those that failed are known to have cost, None where none of them was billed.
    `started_at` is when the last one of this call went on the wire, microseconds since the epoch.
    `risk` is the most that the unconfirmed ones of this journal may have cost, but for `unbounded` of them, of which no
    most is known. `carried` attempts, with `carried_cost`, were made before the request came to stand here; `origin` names
    the record of them elsewhere.
    """

    sent: int = 0
    failed: int = 0
    unconfirmed: int = 0
    hash: str = ""
    ceiling: int | None = None
    started_at: int | None = None
    cost: Cost | None = None
    risk: int = 0
    unbounded: int = 0
    carried: int = 0
    carried_cost: int = 0
    origin: str = ""

    def lose(self) -> None:
        """Count an attempt whose answer was lost."""
        self.unconfirmed += 1
        if self.ceiling is None:
            self.unbounded += 1
        else:
            self.risk += self.ceiling

    def carry(self, other: "Carried") -> None:
        """Count attempts that another file has recorded."""
        self.hash, self.origin = other.hash, other.origin
        self.failed += other.failed
        self.unconfirmed += other.unconfirmed
        self.sent += other.failed + other.unconfirmed
        self.carried += other.failed + other.unconfirmed
        self.carried_cost += other.cost.total if other.cost is not None else 0
        self.pay(other.cost)

    def pay(self, cost: Cost | None) -> None:
        """Add what an attempt cost that brought no answer."""
        if cost is not None:
            self.cost = cost.plus(self.cost)

    def take(self, answer: Result) -> None:
        """Count a paid answer that is not the result, or not yet: its cost has in it what was paid before."""
        self.failed += 1
        self.cost = attempts_of(answer)[2] or self.cost

    @property
    def under_way(self) -> int:
        return self.sent - self.failed - self.unconfirmed

    @property
    def only_carried(self) -> bool:
        """Whether nothing was sent since the request came to stand here."""
        return self.sent == self.carried


class Sent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An attempt is about to go on the wire."""

    row: int
    variant: str
    sample: int
    hash: str
    ceiling: int | None


class Lost(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An attempt failed; `unconfirmed` is 1 where its answer was lost, so that it may have been billed. `kind` is that of
    the fault (errors.Kind), empty where its writer died; `cost` is what it is known to have cost all the same.
    """

    row: int
    variant: str
    sample: int
    unconfirmed: int
    kind: str = ""
    cost: Cost | None = None


class Carried(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Attempts that a request had before: in another place, or before it was to be asked again. `origin` names the record
    that they were taken from, empty where it is in no file that is drawn upon: a death leaves both, and they are one.
    """

    row: int
    variant: str
    sample: int
    hash: str
    failed: int
    unconfirmed: int
    cost: Cost | None = None
    origin: str = ""


class Line(msgspec.Struct, omit_defaults=True):
    """One record; exactly one of the fields is set. The header has `shard`, `format` and the `writer`
    that began the file. `paid` is an answer as the result
    that it would be; another attempt may follow it.
    """

    shard: str | None = None
    format: int | None = None
    writer: str | None = None
    sent: Sent | None = None
    lost: Lost | None = None
    carried: Carried | None = None
    paid: Result | None = None
    result: Result | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def attempts_of(result: Result) -> tuple[int, int, Cost | None]:
    """A failed result's attempts, as Carried has them: billed for sure or not at all, unconfirmed, what they cost."""
    cost = None
    if result.cost is not None:
        share = result.cost if result.input_cost is None else result.input_cost  # an older version kept no share
        cost = Cost(share, result.cost - share)
    return result.attempts - result.unconfirmed_attempts, result.unconfirmed_attempts, cost


def sealed_line(record: Line) -> bytes:
    """A record as its line: JSON whose last field is the CRC-32 of everything before it."""
    return with_checksum(_encode(record)) + b"\n"


def opened_line(line: bytes) -> Line | None:
    """The record in a line without its newline; None where the line is damaged."""
    text = without_checksum(line)
    try:
        return None if text is None else _decode(text)
    except msgspec.DecodeError:
        return None


def identity_of(result: Result) -> str:
    """What tells one result from another, wherever it is stored."""
    return hashlib.blake2b(_encode(answer_of(result)), digest_size=16).hexdigest()


def answer_of(result: Result) -> tuple[object, ...]:
    """What tells one answer from another, whatever was judged of it."""
    return (result.request_hash, result.started_at, result.response_id, result.completion)
