"""What a run has spent, and what it may have: counted once, wherever the files that say it were moved."""

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchrun.errors import Kind
from batchrun.ledger import durable, parts
from batchrun.ledger import reconcile as module
from batchrun.ledger.account import Account
from batchrun.ledger.identity import Shards
from batchrun.ledger.layout import Layout
from batchrun.ledger.ledger import Ledger, OpenShard
from batchrun.ledger.reconcile import reconcile, reopen_failed
from batchrun.ledger.replay import replay
from batchrun.ledger.reuse import Offer, Pool
from batchrun.ledger.run_dir import RunDir
from batchrun.ledger.spending import spending
from batchrun.money import Cost
from batchrun.records import Request, Result, Row, Shard, ShardInfo

ROWS = 3
STEPS = ("die", "seal", "merge", "retry", "retry_some", "retry_then_die", "die_retrying", "change")
ENDS = ("ok", "unpriced", "refused", "re-asked", "none")
ATTEMPT = st.tuples(st.sampled_from(("lost", "failed", "billed")), st.none() | st.integers(1, 9))


class Books:
    """A run of one shard, and beside it the sums that it must come to."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = RunDir(str(folder))
        self.run_dir.acquire()
        self.expected = Account()
        self.answers = 0
        self.spent: set[str] = set()
        self.cut("first")
        self.open()

    def cut(self, digest: str) -> None:
        rows = [Row(n, str(n), {"prompt": "p"}, "") for n in range(ROWS)]
        self.shard = Shard(ShardInfo(0, 0, ROWS, 0, 0, 1, digest), rows, pa.table({"prompt": ["p"] * ROWS}))
        self.requests = [Request(n, str(n), "default", 0, b"{}", f"h{n}", "m") for n in range(ROWS)]
        self.layout = Layout(self.shard.table.schema)

    def shards(self) -> Shards:
        return Shards("requests", "columns", (self.shard.info,))

    def open(self) -> None:
        self.ledger = Ledger(
            self.run_dir, layout=self.layout, per_row=1, variant_names=["default"], inputs_of=lambda one: one.table
        )
        self.opened: OpenShard | None = None
        if 0 not in self.run_dir.sealed() and not self.run_dir.results.exists():
            self.opened, _done = self.ledger.open(self.shard, self.requests, [])

    def add(self, **more: int) -> None:
        self.expected = self.expected.plus(Account(**more))

    def ask(self, request: Request, attempts: list[tuple[str, int | None]], end: str) -> None:
        """So many attempts that fail, and an end."""
        tallies = self.opened.tallies
        for how, ceiling in attempts:
            self.ledger.sent(self.opened, request, ceiling)
            if how == "lost":
                self.add(**({"unbounded": 1} if ceiling is None else {"risk": ceiling}))
            if how == "billed":
                self.add(spent=5)
            cost = Cost(2, 3) if how == "billed" else None
            self.ledger.lost(self.opened, request.key, how == "lost", Kind.SERVER, cost)
        if end == "none":
            return
        if end == "re-asked":
            self.ledger.sent(self.opened, request, 1)
            self.ledger.paid(self.opened, self.answer(request, 11))
            self.add(spent=11)
        self.ledger.sent(self.opened, request, 1)
        if end == "refused":
            self.ledger.lost(self.opened, request.key, False, Kind.BAD_REQUEST)
            tally = tallies[request.key]
            total = None if tally.cost is None else tally.cost.total
            result = msgspec.structs.replace(
                self.answer(request, None), status="failed", error_kind="bad_request", cost=total, total_tokens=None
            )
        elif end == "unpriced":
            result = self.answer(request, None)
            self.add(unpriced=1)
        else:
            result = self.answer(request, 100)
            self.add(spent=100)
        self.ledger.record(self.opened, result)

    def answer(self, request: Request, cost: int | None) -> Result:
        tally = self.opened.tallies[request.key]
        self.answers += 1
        before = tally.cost.total if tally.cost is not None else 0
        return Result(
            *(request.row, request.id, "default", 0, request.hash, "ok", "fine"),
            response_id=f"id{self.answers}",
            total_tokens=3,
            attempts=tally.sent,
            unconfirmed_attempts=tally.unconfirmed,
            cost=None if cost is None else before + cost,
            input_cost=None if cost is None else 0,
            asked_model="m",
        )

    def seal(self) -> None:
        if self.opened is not None and self.opened.pending == 0:
            self.ledger.seal(self.opened)
            self.opened = None

    def die(self) -> None:
        """With an attempt on the wire, if one is left to be made."""
        left = [] if self.opened is None else [one for one in self.requests if one.key not in self.recorded()]
        if left:
            self.ledger.sent(self.opened, left[0], 4)
            self.add(risk=4)

    def merge(self) -> None:
        self.seal()
        if self.opened is None and not self.run_dir.results.exists():
            parts.merge([self.run_dir.part(0)], self.run_dir.results, self.layout)
            self.run_dir.drop_parts()

    def retry(self) -> None:
        reopen_failed(self.run_dir, self.shards(), [0], frozenset())

    def retry_some(self) -> None:
        """Of the failures only one kind that no row has failed with: all are kept, as they are."""
        reopen_failed(self.run_dir, self.shards(), [0], frozenset({Kind.TIMEOUT}))

    def retry_then_die(self) -> None:
        """Killed when the journal is the new one, and what it replaces is not set aside yet."""
        self.dies_in_retry(RunDir, "supersede")

    def die_retrying(self) -> None:
        """Killed before that: the journal is the old one still."""
        self.dies_in_retry(module, "rewrite")

    def dies_in_retry(self, owner: Any, step: str) -> None:
        with patch.object(owner, step, side_effect=RuntimeError("killed")), contextlib.suppress(RuntimeError):
            reopen_failed(self.run_dir, self.shards(), [0], frozenset())
        durable.sweep(self.run_dir.state)
        reconcile(self.run_dir, self.shards(), self.shards())

    def change(self) -> None:
        """The rows are cut in another way: what was answered is drawn upon."""
        old = self.shards()
        self.cut(f"digest {self.answers} {len(self.spent)}")
        reconcile(self.run_dir, old, self.shards())
        names = self.run_dir.superseded()
        offers = [Offer(file, name not in self.spent) for name in names for file in self.run_dir.superseded_files(name)]
        standing = self.run_dir.all_results()
        pool = Pool(self.run_dir.state / "pool", offers, standing, retried=None, check=lambda: None)
        self.ledger.adopt(self.shard, self.requests, [], pool)
        pool.close()
        self.spent = set(names)

    def recorded(self) -> set[Any]:
        return set(replay(self.run_dir.journal(0)).results)


ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.lists(ATTEMPT, max_size=2), st.sampled_from(ENDS)), min_size=ROWS, max_size=ROWS),
        st.sampled_from(STEPS),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=ROUNDS)
@example(rounds=[([([("billed", 1)], "refused"), *[([], "none")] * 2], "die_retrying")])
@example(rounds=[([([("billed", 1)], "refused"), *[([], "none")] * 2], "retry_then_die")])
def test_each_attempt_is_counted_once(rounds: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """In journals, parts, merged results and what is superseded: over deaths, retries and changes the sums are exact."""
    books = Books(tmp_path_factory.mktemp("run") / "run")
    for plans, step in rounds:
        if books.opened is not None:
            for request in list(books.opened.left):
                books.ask(request, *plans[request.row])
        assert spending(books.run_dir) == books.expected, "before"
        getattr(books, step)()
        assert spending(books.run_dir) == books.expected, step
        books.ledger.close()
        books.open()
    books.run_dir.release()


def test_of_older_parts_what_their_results_say_is_counted(tmp_path: Path) -> None:
    """Their footers have no account: an unconfirmed attempt of theirs may have cost anything."""
    books = Books(tmp_path / "run")
    for request in books.requests:
        books.ask(request, [("lost", 7)], "ok")
    books.ledger.close()
    found = sorted(replay(books.run_dir.journal(0)).results.values(), key=lambda one: one.row)
    books.run_dir.journal(0).unlink()
    parts.write_part(books.run_dir.part(0), books.layout, books.shard.table, 1, found)
    assert spending(books.run_dir) == Account(spent=300, unbounded=3)
    books.run_dir.release()
