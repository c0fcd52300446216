"""A journal read back: what a shard holds. A torn last line is dropped with a note; a broken line elsewhere is an error that
names the file and the lines.
"""

from pathlib import Path

import msgspec

from batchrun.errors import LedgerError
from batchrun.ledger.durable import disk_faults
from batchrun.ledger.formats import refusal
from batchrun.ledger.lines import Key, Line, Tally, answer_of, opened_line
from batchrun.records import Result

_NAMED_LINES = 20


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
        standing = {key: answer_of(result) for key, result in self.results.items()}
        return [one for key, paid in self.paid.items() for one in paid if answer_of(one) != standing.get(key)]

    def in_flight(self) -> dict[Key, Tally]:
        """The requests that were sent and never heard of again: those under way when the writer died."""
        return {key: tally for key, tally in self.tallies.items() if key not in self.results and tally.under_way > 0}


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
