"""Bits that flip, and ends that are cut off, in what a run left behind: never a wrong answer, never a silent loss."""

import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from bench import Bench, Site
from books import audit

ROWS = 6
SHARD = 8
TRIES = 8
Damage = Callable[[bytes], bytes]


def flip(place: int, bit: int, data: bytes) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def cut(place: int, data: bytes) -> bytes:
    return data[:place]


class Wreck:
    """What a killed run left behind: its journals, and the other files that it works with."""

    def __init__(self, slow_site: Site, benches: list[Bench]) -> None:
        self.site = slow_site
        self.site.write_rows(ROWS)
        (self.bench,) = slow_site.benches
        self.site.benches = benches
        for _ in range(TRIES):  # a kill may come when all is answered, on a machine that is busy
            folder = self.site.fresh()
            running = self.bench.start(folder, shard_requests=SHARD)
            running.until(received=ROWS - 2)
            running.kill()
            running.wait()
            self.known = self.bench.done(folder)
            if 0 < self.known < ROWS:
                break
        assert 0 < self.known < ROWS
        self.site.template = out = folder / "out"
        names = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith("reserve"))
        self.files = [path.relative_to(out) for path in names]
        self.journals = [path for path in self.files if b'{"result"' in (out / path).read_bytes()]
        assert self.journals

    def size(self, path: Path) -> int:
        assert self.site.template is not None
        return (self.site.template / path).stat().st_size

    def damage(self, trials: list[tuple[Path, Damage]]) -> None:
        faults: list[str] = []
        tried = self.site.everywhere([partial(self._try, path, how, faults) for path, how in trials])
        assert not faults, f"{len(faults)} of {len(tried)}:\n" + "\n".join(faults)

    def _try(self, path: Path, how: Damage, faults: list[str], bench: Bench) -> None:
        folder = self.site.fresh()
        file = folder / "out" / path
        file.write_bytes(how(file.read_bytes()))
        try:
            ended = bench.run(folder, shard_requests=SHARD)
            if ended.code != 0:
                assert "Traceback" not in ended.said
                assert ended.code in (2, 3), ended
                assert ended.received == 0, "it asked, and then found the damage"
                where = re.escape(str(file)) + (r"\W+(lines? )?\d" if path in self.journals else "")
                assert re.search(where, ended.said), f"not where: {ended.said}"
                shutil.move(file, folder / "aside")  # as the message says
                ended = bench.run(folder, shard_requests=SHARD)
                assert ended.code == 0, ended
            elif path in self.journals:
                # a tail that looks torn costs its own record alone
                assert ended.received <= ROWS - self.known + 1, "more than the last record was lost"
            audit(folder / "out", ROWS)
        except Exception as fault:
            faults.append(f"{path} {how}: {str(fault).partition(chr(10))[0]}")
        else:
            shutil.rmtree(folder)


@pytest.fixture
def wreck(slow_site: Site, benches: list[Bench]) -> Wreck:
    return Wreck(slow_site, benches)


def test_damage_to_a_journal(wreck: Wreck) -> None:
    """A flipped bit is an error that names file and line; a cut costs what is cut off. The rest is kept."""
    chance = random.Random(1)
    trials: list[tuple[Path, Damage]] = []
    for path in wreck.journals:
        size = wreck.size(path)
        trials += [(path, partial(flip, chance.randrange(size), chance.randrange(8))) for _ in range(8)]
        trials += [(path, partial(flip, size - 1, 3)), (path, partial(cut, size - 1)), (path, partial(cut, size - 9))]
    wreck.damage(trials)


@pytest.mark.soak
def test_a_flipped_bit_at_any_byte(wreck: Wreck) -> None:
    """Some bit of any byte in any of the files that a run works with."""
    assert wreck.site.soak is not None
    chance = wreck.site.soak.chance
    trials: list[tuple[Path, Damage]] = []
    for path in wreck.files:
        size = wreck.size(path)
        trials += [(path, partial(flip, place, chance.randrange(8))) for place in range(size)]
    wreck.damage(trials)
