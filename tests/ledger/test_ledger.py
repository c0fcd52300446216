"""What the ledger writes down of an attempt: how it was lost, and an answer that was paid for before anything judges it."""

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pyarrow as pa
import pytest

from batchrun.errors import Kind
from batchrun.ledger import parts
from batchrun.ledger.identity import Shards
from batchrun.ledger.layout import Layout
from batchrun.ledger.ledger import KEPT, Ledger, OpenShard
from batchrun.ledger.lines import opened_line
from batchrun.ledger.parts import read_results
from batchrun.ledger.reconcile import reconcile
from batchrun.ledger.replay import replay
from batchrun.ledger.run_dir import RunDir
from batchrun.money import Cost
from batchrun.records import Request, Result, Row, Shard, ShardInfo

COUNT = 2
KEY = (0, "default", 0)


class Book:
    """A ledger of one shard, opened again as often as a test wants, as by a run that follows a killed one."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = RunDir(str(folder))
        self.run_dir.acquire()
        rows = [
            Row(number, str(number), {"prompt": f"p{number}"}, f"rows.jsonl:{number + 1}") for number in range(COUNT)
        ]
        table = pa.table({"prompt": [row.data["prompt"] for row in rows]})
        self.shard = Shard(ShardInfo(0, 0, COUNT, 0, 0, 1, "digest"), rows, table)
        self.requests = [Request(n, str(n), "default", 0, b"{}", f"h{n}", "m") for n in range(COUNT)]
        self.begin()

    def begin(self) -> None:
        self.ledger = Ledger(
            self.run_dir,
            layout=Layout(self.shard.table.schema, raw=False, embeddings=False),
            per_row=1,
            variant_names=["default"],
            inputs_of=lambda shard: shard.table,
        )
        self.opened: OpenShard
        self.opened, self.done = self.ledger.open(self.shard, self.requests, [])

    def answer(self, row: int, text: str) -> Result:
        tally = self.opened.tallies[(row, "default", 0)]
        return Result(row, str(row), "default", 0, f"h{row}", "ok", text, response_id=text, attempts=tally.sent)

    def lines(self) -> list[Any]:
        return [opened_line(line) for line in self.run_dir.journal(0).read_bytes().splitlines()]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "run")


def test_a_lost_attempt_says_what_was_wrong(book: Book) -> None:
    """Its line has the kind of the fault; one whose writer died has none."""
    book.ledger.sent(book.opened, book.requests[0], 7)
    book.ledger.lost(book.opened, KEY, True, Kind.TIMEOUT)
    book.ledger.sent(book.opened, book.requests[0], 7)
    book.begin()
    lost = [line.lost for line in book.lines() if line.lost is not None]
    assert [(one.unconfirmed, one.kind) for one in lost] == [(1, "timeout"), (1, "")]


def test_an_answer_is_there_before_it_is_judged(book: Book) -> None:
    """A run that dies in judging finds it, and asks nothing: it counts as an attempt that is over."""
    book.ledger.sent(book.opened, book.requests[0], 7)
    book.ledger.paid(book.opened, book.answer(0, "not JSON"))
    book.begin()
    assert [one.completion for one in book.opened.paid[KEY]] == ["not JSON"]
    tally = book.opened.tallies[KEY]
    assert (tally.sent, tally.failed, tally.unconfirmed, tally.under_way) == (1, 1, 0, 0)
    assert [request.row for request in book.opened.left] == [0, 1]


def test_an_answer_that_was_found_wrong_is_kept(book: Book) -> None:
    """The result is the last one's; those before it count as attempts, and outlive the journal in one of their own."""
    for text in ("not JSON", "{}"):
        book.ledger.sent(book.opened, book.requests[0], 7)
        book.ledger.paid(book.opened, book.answer(0, text))
    book.ledger.record(book.opened, msgspec.structs.replace(book.answer(0, "{}"), attempts=2))
    assert KEY not in book.opened.paid
    book.ledger.sent(book.opened, book.requests[1], 7)
    assert book.ledger.record(book.opened, book.answer(1, "fine"))
    book.ledger.seal(book.opened)
    book.ledger.close()
    results = list(read_results(book.run_dir.part(0)))
    assert [(one.completion, one.attempts) for one in results] == [("{}", 2), ("fine", 1)]
    assert not book.run_dir.journal(0).exists()
    kept = replay(book.run_dir.state / KEPT).paid
    assert [one.completion for one in kept[KEY]] == ["not JSON"]


def test_what_was_paid_for_no_result_is_remembered(book: Book) -> None:
    """Faults that were billed add up; an answer that is not the result has in its cost what was paid before it. Both also
    after the writer died.
    """
    for cost in (Cost(3, 4), None, Cost(30, 40)):
        book.ledger.sent(book.opened, book.requests[0], 7)
        book.ledger.lost(book.opened, KEY, cost is None, Kind.DISCONNECTED, cost)
    book.begin()
    assert book.opened.tallies[KEY].cost == Cost(33, 44)
    book.ledger.sent(book.opened, book.requests[0], 7)
    book.ledger.paid(book.opened, msgspec.structs.replace(book.answer(0, "not JSON"), cost=377, input_cost=333))
    assert book.opened.tallies[KEY].cost == Cost(333, 44)
    book.begin()
    assert book.opened.tallies[KEY].cost == Cost(333, 44)


def test_an_answer_that_was_found_wrong_outlives_a_death_while_its_shard_is_sealed(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the part stands, the next run gives the journal up for it: what is in no part is kept elsewhere before that."""
    write_part = parts.write_part

    def then_dies(*args: Any) -> None:
        write_part(*args)
        raise RuntimeError("killed")

    for row, texts in ((0, ("not JSON", "{}")), (1, ("fine",))):
        for text in texts:
            book.ledger.sent(book.opened, book.requests[row], 7)
            book.ledger.paid(book.opened, book.answer(row, text))
        book.ledger.record(book.opened, book.answer(row, texts[-1]))
    monkeypatch.setattr(parts, "write_part", then_dies)
    with pytest.raises(RuntimeError, match="killed"):
        book.ledger.seal(book.opened)
    assert book.run_dir.part(0).exists()
    shards = Shards("r", "c", (book.shard.info,))
    assert reconcile(book.run_dir, shards, shards) == []
    assert not book.run_dir.journal(0).exists()
    assert [one.completion for one in replay(book.run_dir.state / KEPT).paid[KEY]] == ["not JSON"]


def test_what_is_to_be_synced_may_be_sealed_meanwhile(book: Book) -> None:
    """A thread seals a shard while another one syncs what was recorded."""

    class Synced:
        """A journal whose sync is met by the end of another shard."""

        def sync(self) -> None:
            book.ledger.seal(other)

    info = msgspec.structs.replace(book.shard.info, number=1)
    other, _done = book.ledger.open(Shard(info, [], book.shard.table[:0]), [], [])
    book.opened.journal = Synced()  # type: ignore[assignment]
    anyio.run(book.ledger.sync)
    assert book.run_dir.part(1).exists()
