"""Drawing on earlier results: by what was asked, each once, `ok` ones first."""

from pathlib import Path

import msgspec
import pytest

from batchrun.ledger.journal import rewrite
from batchrun.ledger.lines import Carried, Line, Sent, identity_of
from batchrun.ledger.reuse import Offer, Pool
from batchrun.money import Cost
from batchrun.records import Request, Result


def asked(row: int, identity: str) -> Request:
    return Request(row, f"r{row}", "default", 0, b"{}", identity, "m")


def done(row: int, identity: str, status: str = "ok", began: int = 0) -> Result:
    failed = {"error_kind": "server"} if status == "failed" else {}
    return Result(row, f"r{row}", "default", 0, identity, status, attempts=1, started_at=began or row, **failed)


def journal(path: Path, *lines: Line) -> Path:
    rewrite(path, "digest", list(lines))
    return path


def pool(tmp_path: Path, *offers: Offer, standing: tuple[Path, ...] = (), retry_failed: bool = False) -> Pool:
    return Pool(tmp_path / "index", offers, standing, retried=frozenset() if retry_failed else None, check=lambda: None)


def attempts(index: Pool, row: int) -> tuple[int, int, Cost | None] | None:
    """Those drawn for a row that asks "h": failed, unconfirmed, and what they cost."""
    found = index.draw_attempts(asked(row, "h"))
    return None if found is None else (found.failed, found.unconfirmed, found.cost)


def test_an_answer_is_drawn_once_and_moves_to_its_new_place(tmp_path: Path) -> None:
    """Two rows that ask the same are two requests; a standing answer is not drawn again; nothing is drawn by place."""
    both = journal(tmp_path / "a.jsonl", *(Line(result=done(row, "h")) for row in (1, 2)))
    index = pool(tmp_path, Offer(both, True), standing=(journal(tmp_path / "b.jsonl", Line(result=done(1, "h"))),))
    drawn = index.draw(asked(7, "h"))
    assert drawn is not None
    assert (drawn.row, drawn.id, drawn.started_at) == (7, "r7", 2)
    assert index.draw(asked(8, "h")) is None
    assert index.draw(asked(1, "other")) is None
    index.close()
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("fresh", "retry", "kind"), [(True, False, "failed"), (False, False, None), (True, True, None)]
)
def test_a_failure_is_drawn_from_the_state_just_before(
    tmp_path: Path, fresh: bool, retry: bool, kind: str | None
) -> None:
    """After the answers; not from what was set aside earlier, and not when failures are asked again."""
    file = journal(tmp_path / "a.jsonl", Line(result=done(1, "h", "failed")), Line(result=done(2, "h")))
    index = pool(tmp_path, Offer(file, fresh), retry_failed=retry)
    first, second = index.draw(asked(3, "h")), index.draw(asked(4, "h"))
    assert first is not None
    assert first.status == "ok"
    assert (second and second.status) == kind
    assert attempts(index, 4) == ((1, 0, None) if retry else None)


def test_a_failure_in_two_files_carries_its_attempts_once(tmp_path: Path) -> None:
    """A change that was killed while it took answers over leaves a failure in the old file and in the new one; what its
    attempts cost goes with them.
    """
    one = msgspec.structs.replace(done(1, "h", "failed", began=5), cost=7, input_cost=3)
    files = [journal(tmp_path / f"{name}.jsonl", Line(result=one)) for name in "ab"]
    index = pool(tmp_path, *(Offer(file, True) for file in files), retry_failed=True)
    assert attempts(index, 1) == (1, 0, Cost(3, 4))
    assert attempts(index, 2) is None


def test_attempts_without_a_result_are_carried(tmp_path: Path) -> None:
    """What was in flight when the writer died is an unconfirmed attempt of the request that asks the same."""
    file = journal(tmp_path / "a.jsonl", Line(sent=Sent(1, "default", 0, "h", None)))
    index = pool(tmp_path, Offer(file, True))
    assert attempts(index, 9) == (0, 1, None)


def test_attempts_in_two_files_are_carried_once(tmp_path: Path) -> None:
    """A change that was killed while it took attempts over leaves them in the old journal and in the new one; the new one may
    be set aside by another change, or go on. What goes on is not drawn for a second row that asks the same.
    """
    old = journal(tmp_path / "old.jsonl", Line(sent=Sent(1, "default", 0, "h", None)))
    first = pool(tmp_path, Offer(old, True)).draw_attempts(asked(2, "h"))
    new = journal(tmp_path / "new.jsonl", Line(carried=first))
    index = pool(tmp_path, Offer(old, True), Offer(new, True))
    assert [attempts(index, row) for row in (3, 4)] == [(0, 1, None), None]
    assert attempts(pool(tmp_path, Offer(old, True), standing=(new,)), 3) is None


@pytest.mark.parametrize("retry", [False, True])
def test_a_failure_and_its_journal_are_one(tmp_path: Path, retry: bool) -> None:
    """A --retry-failed that was killed leaves the failure set aside and its attempts in a journal: drawn is one of both."""
    failed = done(1, "h", "failed")
    part = journal(tmp_path / "part.jsonl", Line(result=failed))
    again = journal(
        tmp_path / "again.jsonl", Line(carried=Carried(1, "default", 0, "h", 1, 0, None, identity_of(failed)))
    )
    index = pool(tmp_path, Offer(part, True), Offer(again, True), retry_failed=retry)
    drawn = index.draw(asked(2, "h"))
    assert (drawn and drawn.status) == (None if retry else "failed")
    assert attempts(index, 3) == ((1, 0, None) if retry else None)
    assert attempts(index, 4) is None
