"""The audit of a complete run's books: what must hold whatever happened on the way (contract.md §6, §7)."""

import decimal
import json
import stat
from pathlib import Path

import pyarrow.parquet as pq


def audit(out: Path, rows: int, *, tidy: bool = True) -> tuple[int, int]:
    """Assert that the books of a complete run are right; returns (attempts, unconfirmed attempts). `tidy` says whether its
    working state must be gone: it may stay, inert, where the disk refused to remove it.
    """
    table = pq.read_table(out / "results.parquet", use_threads=False)
    assert table["row"].to_pylist() == list(range(rows))
    assert table["number"].to_pylist() == list(range(rows))
    assert table["completion"].to_pylist() == [str(n + 1) for n in range(rows)]
    assert set(table["status"].to_pylist()) == {"ok"}
    *groups, total = pq.read_table(out / "cost_summary.parquet", use_threads=False).to_pylist()
    assert (total["model"], total["requests"], total["ok"], total["failed"]) == ("total", rows, rows, 0)
    for name in ("requests", "ok", "failed"):
        assert sum(group[name] for group in groups) == total[name]
    sums = ("attempts", "unconfirmed_attempts", *(f"{kind}_tokens" for kind in ("prompt", "completion", "total")))
    for name in sums:
        assert sum(table[name].to_pylist()) == total[name] == sum(group[name] for group in groups), name
    assert _money(table["cost_usd"].to_pylist()) == _money([total["cost_usd"]]) > 0
    assert _money([group["cost_usd"] for group in groups]) == _money([total["cost_usd"]])
    assert json.loads((out / "run.json").read_bytes())["state"] == "complete"
    assert_private(out)
    if tidy:
        _assert_tidy(out, table["response_id"].to_pylist())
    return total["attempts"], total["unconfirmed_attempts"]


def assert_private(out: Path) -> None:
    """Nobody but the owner may read anything of a run, whatever state it is in."""
    for path in (out, *out.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"


def _assert_tidy(out: Path, ids: list[str]) -> None:
    """A complete run keeps no half-written file and no second copy of an answer."""
    for path in out.rglob("*"):
        kept = {"set-aside", "superseded"} & set(path.relative_to(out).parts)
        if path.is_dir() or kept or path in (out / "results.parquet", out / "cost_summary.parquet"):
            continue
        assert not path.name.endswith(".tmp"), f"{path}: an unfinished file stays behind"
        data = path.read_bytes()
        assert not any(one.encode() in data for one in ids), f"{path}: working state of a complete run holds answers"
        assert not data.startswith(b"PAR1"), f"{path}: a part stays behind"


def _money(values: list[float]) -> decimal.Decimal:
    return sum((decimal.Decimal(repr(value)) for value in values), decimal.Decimal(0))
