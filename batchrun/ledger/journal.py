"""A shard's open journal: one JSON line a record, each with its checksum; text that jq reads.

Records are a header with the number of the format, `sent` before an attempt goes on the wire, `lost` when it failed,
`paid` for an answer before anything judges it, `carried` for attempts that were made before the request came to stand
here, and `result`. A torn last line is dropped with a note; a broken line elsewhere is an error that names the file and the
lines. Lines are written at once and synced in groups by whoever owns the journal.
"""

import hashlib
import os
import threading
from pathlib import Path

import msgspec

from batchrun.errors import LedgerError
from batchrun.ledger.durable import FILE_MODE, disk_faults, sync_dir, with_checksum, without_checksum, write_whole
from batchrun.ledger.formats import FORMAT, refusal
from batchrun.ledger.lock import writer
from batchrun.money import Cost
from batchrun.records import Result

Key = tuple[int, str, int]
_NAMED_LINES = 20


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


def _header(shard: str) -> Line:
    return Line(shard=shard, format=FORMAT, writer=writer())


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


class Replay(msgspec.Struct):
    """What a journal holds: results, attempts and paid answers by request key, and whether a torn tail was cut off.

    `whole` are the lines that can be believed, each with its newline.
    """

    shard: str | None
    results: dict[Key, Result]
    tallies: dict[Key, Tally]
    paid: dict[Key, list[Result]] = {}
    torn: bool = False
    whole: bytes = b""

    def outdated(self) -> list[Result]:
        """The paid answers that did not become their request's result."""
        standing = {key: _answer_of(result) for key, result in self.results.items()}
        return [one for key, paid in self.paid.items() for one in paid if _answer_of(one) != standing.get(key)]

    def in_flight(self) -> dict[Key, Tally]:
        """The requests that were sent and never heard of again: those under way when the writer died."""
        return {key: tally for key, tally in self.tallies.items() if key not in self.results and tally.under_way > 0}


def identity_of(result: Result) -> str:
    """What tells one result from another, wherever it is stored."""
    return hashlib.blake2b(_encode(_answer_of(result)), digest_size=16).hexdigest()


def _answer_of(result: Result) -> tuple[object, ...]:
    """What tells one answer from another, whatever was judged of it."""
    return (result.request_hash, result.started_at, result.response_id, result.completion)


def replay(path: Path) -> Replay:
    """Read a journal. Raises LedgerError for damage anywhere but in an unfinished last line."""
    with disk_faults(path):
        data = path.read_bytes()
    found = Replay(None, {}, {})
    *lines, tail = data.split(b"\n")
    damaged: list[int] = []
    for number, line in enumerate(lines, 1):
        record = opened_line(line)
        if record is None:
            damaged.append(number)
        else:
            _apply(found, record)
            if record.format is not None and (refused := refusal(path, record.format)) is not None:
                raise LedgerError(refused)
    found.whole = data[: len(data) - len(tail)]
    if tail:
        record = opened_line(tail)
        if record is None:
            found.torn = True
        else:  # only its newline is missing
            _apply(found, record)
            found.whole = data + b"\n"
    if damaged:
        raise LedgerError(_damage(path, damaged))
    return found


def _damage(path: Path, numbers: list[int]) -> str:
    """What is damaged, and how to go on without it and with all the rest."""
    shown = ", ".join(map(str, numbers[:_NAMED_LINES]))
    if len(numbers) > _NAMED_LINES:
        return (
            f"{path}: {len(numbers)} lines are damaged ({shown}, …): their checksums are wrong. Set the file aside, under "
            "another name, and run the same command again: the requests in it are asked again"
        )
    what = (
        f"line {shown} is damaged: its checksum is"
        if len(numbers) == 1
        else f"lines {shown} are damaged: checksums are"
    )
    script = ";".join(f"{number}d" for number in numbers)
    return (
        f"{path}: {what} wrong. To go on without what stands there:  sed -i.damaged '{script}' '{path}'\n"
        "and run the same command again: all other answers are kept"
    )


def _apply(found: Replay, record: Line) -> None:
    if record.result is not None:
        found.results[record.result.key] = record.result
    elif record.sent is not None:
        sent = record.sent
        tally = found.tallies.setdefault((sent.row, sent.variant, sent.sample), Tally())
        tally.sent += 1
        tally.hash, tally.ceiling = sent.hash, sent.ceiling
    elif record.paid is not None:
        found.paid.setdefault(record.paid.key, []).append(record.paid)
        found.tallies.setdefault(record.paid.key, Tally()).take(record.paid)
    elif record.lost is not None:
        lost = record.lost
        tally = found.tallies.setdefault((lost.row, lost.variant, lost.sample), Tally())
        if lost.unconfirmed:
            tally.lose()
        else:
            tally.failed += 1
        tally.pay(lost.cost)
    elif record.carried is not None:
        carried = record.carried
        tally = found.tallies.setdefault((carried.row, carried.variant, carried.sample), Tally())
        tally.carry(carried)
    elif record.shard is not None:
        found.shard = record.shard


class Journal:
    """The writer of one journal. `append` writes at once; `sync` makes what was written survive a power loss."""

    def __init__(self, path: Path, shard: str) -> None:
        self.path = path
        self._dirty = False
        self._torn = False
        self._distrusted = False
        self._first_fault = ""  # what is told from then on: it names the remedy
        self._lock = threading.Lock()  # `sync` and `close` come from different threads
        known = path.exists()
        with disk_faults(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
            self._size = os.fstat(self._handle).st_size
        # a file outlives a power loss only when its folder knows it; that it stands there doesn't prove that
        self._known = False
        if not known:
            self.append(_header(shard))

    def append(self, record: Line) -> None:
        """Write one record. Raises LedgerError; where only space was missing (`durable.is_full`) it may be tried again."""
        if self._torn or self._distrusted:
            raise LedgerError(f"{self._first_fault} (nothing more is written to it)")
        line = sealed_line(record)
        try:
            with disk_faults(self.path):
                written = os.write(self._handle, line)
                while written < len(line):
                    written += os.write(self._handle, line[written:])
        except LedgerError:
            self._cut_back()
            raise
        self._size += len(line)
        self._dirty = True

    def _cut_back(self) -> None:
        """Take away the part of a line that a failed write left. If that fails too, nothing may be written behind it."""
        try:
            os.ftruncate(self._handle, self._size)
        except OSError as error:
            self._torn = True
            self._first_fault = f"{self.path}: {error.strerror}; check the disk, then run the same command again"

    def sync(self) -> None:
        """Called from any thread; raises LedgerError, after which the run must stop."""
        with self._lock:
            if self._handle < 0 or not self._dirty:
                return
            if self._distrusted:
                raise LedgerError(f"{self._first_fault} (its sync failed: what it holds is not trusted)")
            self._dirty = False
            try:
                with disk_faults(self.path):
                    os.fdatasync(self._handle)
                    if not self._known:
                        sync_dir(self.path.parent)
                        self._known = True
            except LedgerError as error:
                self._first_fault = str(error)
                # the kernel may now call pages clean that never reached the disk: this file is done with
                self._distrusted = self._dirty = True
                raise

    def close(self) -> None:
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


def reopen(path: Path, shard: str) -> tuple[Journal, Replay]:
    """Go on with a journal, or begin one. What an earlier writer left is checked and written again, whole and synced:
    its last sync may have failed, and a page that was read is not yet a page on the disk.
    """
    if not path.exists():
        return Journal(path, shard), Replay(None, {}, {})
    found = replay(path)
    if not found.whole:
        with disk_faults(path):
            path.unlink()
        return Journal(path, shard), found
    write_whole(path, found.whole)
    return Journal(path, shard), found


def rewrite(path: Path, shard: str, lines: list[Line]) -> None:
    """Put a journal of just these records at `path`, whole and durable."""
    write_whole(path, b"".join(map(sealed_line, [_header(shard), *lines])))
