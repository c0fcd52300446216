"""Answers that were paid for before the job or its input changed, found again by the hash of what was asked.

Identity is the content of a request, not its place (contract.md §7.2). Each answer is drawn at most once: two rows that
ask the same thing are two requests.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchrun.ledger.journal import replay
from batchrun.ledger.parts import read_results
from batchrun.records import Request, Result


class Pool:
    """The `ok` results of superseded files, by request hash."""

    def __init__(self, folders: list[Path]) -> None:
        self._by_hash: dict[str, list[Result]] = {}
        seen: set[tuple[str, int | None, str | None, str | None]] = set()
        for folder in folders:
            for result in _results(folder):
                # an answer that was reused and then superseded again stands in several files
                identity = (result.request_hash, result.started_at, result.response_id, result.completion)
                if result.status == "ok" and identity not in seen:
                    seen.add(identity)
                    self._by_hash.setdefault(result.request_hash, []).append(result)

    def draw(self, request: Request) -> Result | None:
        """An earlier answer to just this request, in its new place; None where there is none left."""
        if not self._by_hash:
            return None
        found = self._by_hash.get(request.hash)
        if not found:
            return None
        place = {"row": request.row, "id": request.id, "variant": request.variant, "sample": request.sample}
        return msgspec.structs.replace(found.pop(0), **place, asked_model=request.model)


def _results(folder: Path) -> Iterator[Result]:
    for path in sorted(folder.glob("*.parquet")):
        if path.name.startswith(("part-", "results")):
            yield from read_results(path)
    for path in sorted(folder.glob("journal-*.jsonl")):
        yield from replay(path).results.values()
