"""Which rows of an input are asked: `[input] where`, then `limit`, then `sample`. A row keeps its number in the input."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from batchrun.rows.condition import Condition
from batchrun.rows.pieces import Block, Piece, Reader
from batchrun.sections import Input


class Taken(NamedTuple):
    """A record that is asked. `row` is its number in the input, `skipped` how many before it did not fit `where`, `place` where
    it stands in its block.
    """

    row: int
    skipped: int
    piece: Piece
    place: int


class Selection:
    """The rows that an input's settings choose. Raises JobError where a condition can't be read, or told of a row."""

    def __init__(self, settings: Input) -> None:
        self._where = None if settings.where is None else Condition(settings.where)
        self._limit = settings.limit
        self._sample = settings.sample
        self._seed = settings.seed

    @property
    def is_everything(self) -> bool:
        """Whether no row is left out but behind the last one that is asked."""
        return self._where is None and self._sample is None

    def part(self, table: Any, taken: list[Taken]) -> Any:
        """The rows of a block's table that were taken, and nothing besides: what is left out leaves no trace in it."""
        first = taken[0].place
        return table.slice(first, len(taken)) if self.is_everything else table.take([one.place for one in taken])

    @property
    def samples(self) -> bool:
        return self._sample is not None

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that the choice depends on, None for all."""
        return frozenset() if self._where is None else self._where.columns

    def blocks(
        self, blocks: Iterator[Block], row: int, skipped: int, names: list[str], chosen: frozenset[int] | None = None
    ) -> Iterator[tuple[list[Taken], Any]]:
        """What is taken of each block, and the block's arrow table where there is one. The first record is the input's row `row`,
        before which `skipped` did not fit; `names` are the files', `chosen` the rows of a sample.
        """
        for block in blocks:
            taken: list[Taken] = []
            for place, piece in enumerate(block.pieces):
                if self._limit is not None and row - skipped >= self._limit:
                    break
                here, row = row, row + 1
                if not self._fits(piece, names):
                    skipped += 1
                elif chosen is None or here in chosen:
                    taken.append(Taken(here, skipped, piece, place))
            yield taken, block.table
            if self._limit is not None and row - skipped >= self._limit:
                return

    def choose(self, reader: Reader, names: list[str]) -> frozenset[int]:
        """The rows of a sample: as many as are wanted, the same ones for the same seed and input."""
        assert self._sample is not None
        lowest: list[tuple[int, int]] = []
        for taken, _table in self.blocks(reader.blocks(0, 0, 1), 0, 0, names):
            for one in taken:
                digest = hashlib.blake2b(b"%d:%d" % (self._seed, one.row), digest_size=8).digest()
                found = (-int.from_bytes(digest), one.row)
                if len(lowest) < self._sample:
                    heapq.heappush(lowest, found)
                elif lowest and found > lowest[0]:
                    heapq.heapreplace(lowest, found)
        return frozenset(row for _rank, row in lowest)

    def check_seen(self, names: Iterable[str] | None) -> None:
        """After all rows: raise JobError for a column in `where` that none of them has, `names` where all have the same."""
        if self._where is not None:
            self._where.check_seen(names)

    def _fits(self, piece: Piece, names: list[str]) -> bool:
        # a malformed record can't be told, and is a fault of its own
        if self._where is None or piece.error is not None:
            return True
        return self._where.holds(piece.data, f"{names[piece.file]}:{piece.line}")
