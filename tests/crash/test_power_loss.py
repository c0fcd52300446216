"""The power fails: only what was synced is left, and the same command ends with right books (contract.md §7, promise 1)."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from bench import Bench, Site
from books import audit
from disk import OPTIONS, Disk, replayed

ROWS = 4
SAMPLE = 15
Left = dict[str, bytes | None]


class Moment:
    """What is left of a run when the power fails after so many calls. `way` says which folders remember all names."""

    def __init__(self, calls: int, way: str, left: Left, last: str) -> None:
        self.calls = calls
        self.way = way
        self.left = left
        self.last = last


def moments(site: Site) -> list[Moment]:
    """All that may be left of one run, without repetitions, in the order of the calls."""
    folder = site.fresh()
    disk = Disk(folder)
    return traced(site, folder, disk)


def traced(site: Site, folder: Path, disk: Disk, *flags: str) -> list[Moment]:
    """The same of one more run in a folder that the disk has followed so far."""
    trace = folder.parent / f"{folder.name}.power"
    ended = site.benches[0].run(folder, *flags, strace=[*OPTIONS, "-o", str(trace)])
    assert ended.code == 0, ended.said
    found: list[Moment] = []
    seen: set[tuple[str, int]] = set()
    for last in replayed(disk, trace.read_text(encoding="latin-1")):
        ways = {"none": [], "all": list(disk.folders), **{f"{one}/": [one] for one in disk.folders if one}}
        for way, remembered in ways.items():
            left = disk.after_power_loss(["", *remembered])
            key = (way, hash(frozenset(left.items())))
            if key not in seen:
                seen.add(key)
                found.append(Moment(len(found), way, left, last))
    assert_like(disk, folder)
    return found


def assert_like(disk: Disk, folder: Path) -> None:
    """The model has followed the run to its end: it has every file, byte for byte."""
    real = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    model = {
        f"{place}/{name}": file.data
        for place, names in disk.folders.items()
        for name, file in names.items()
        if file is not None
    }
    assert model == real


def put(folder: Path, left: Left) -> None:
    for path, data in sorted(left.items()):
        if data is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(data)
            (folder / path).chmod(0o600)


def goes_on(site: Site, moment: Moment, faults: list[str], bench: Bench) -> tuple[str, int]:
    """The same command after the power has failed; returns how many results had survived."""
    folder = site.fresh()
    put(folder, moment.left)
    try:
        known = bench.done(folder)
        again = bench.run(folder)
        assert again.code == 0, again.said
        audit(folder / "out", ROWS)
        assert again.received == ROWS - known, f"{again.received} asked, though {known} had survived"
    except Exception as fault:
        told = str(fault).partition("\n")[0]
        faults.append(f"after {moment.last}: names remembered: {moment.way}: {told}")
        return moment.way, 0
    return moment.way, known


def try_them(site: Site, choose: Callable[[list[Moment]], list[Moment]]) -> None:
    chosen = choose(moments(site))
    faults: list[str] = []
    survived = site.everywhere([partial(goes_on, site, moment, faults) for moment in chosen])
    assert not faults, f"{len(faults)} of {len(survived)} moments:\n" + "\n".join(faults)
    assert {known for _way, known in survived} >= {0, ROWS}
    for way in {way for way, _known in survived}:
        counts = [known for one, known in survived if one == way]
        assert counts == sorted(counts), f"what was safe is lost again ({way}): {counts}"


def some(found: list[Moment]) -> list[Moment]:
    last = [one for one in found if one.calls >= len(found) - 3]
    return [found[place * len(found) // SAMPLE] for place in range(SAMPLE)] + last


@pytest.mark.usefixtures("strace")
def test_the_power_fails(site: Site) -> None:
    """Here at some moments: no half file is believed, nothing safe is lost, and what is complete stays complete."""
    try_them(site, some)


@pytest.mark.soak
@pytest.mark.usefixtures("strace")
def test_the_power_fails_at_any_moment(site: Site) -> None:
    """And here after every call, with every folder that may or may not have remembered its names."""
    try_them(site, lambda found: found)


class Twice:
    """Bad luck twice: a run that takes over four answers is cut short, and the power fails in the run after it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        folder = site.fresh()
        ended = site.benches[0].run(folder)
        assert ended.code == 0, ended.said
        site.template = folder / "out"
        site.write_rows(ROWS, padding=1)  # all rows have changed, and not what they ask
        self.faults: list[str] = []

    def cut_short(self, kind: str, what: str, when: int) -> list[Moment]:
        """All that may be left of the second run; nothing where the first came to its end before the `when`-th call."""
        folder = self.site.fresh()
        disk = Disk(folder)
        disk.load()
        trace = folder.parent / f"{folder.name}.broken"
        inject = f"inject={kind}:{what}:when={when}"
        broken = self.site.benches[0].run(folder, strace=[*OPTIONS, "-o", str(trace), "-e", inject])
        if broken.code == 0:
            return []
        for _ in replayed(disk, trace.read_text(encoding="latin-1")):
            pass
        return traced(self.site, folder, disk)

    def goes_on(self, told: str, moment: Moment, bench: Bench) -> None:
        folder = self.site.fresh()
        shutil.rmtree(folder / "out")
        put(folder, moment.left)
        try:
            again = bench.run(folder)
            assert again.code == 0, again.said
            audit(folder / "out", ROWS)
            assert again.received == 0, f"{again.received} asked again, though all had been answered"
        except Exception as fault:
            self.faults.append(
                f"{told}, then power lost after {moment.last}: names remembered: {moment.way}: "
                + str(fault).partition("\n")[0]
            )

    def try_them(self, cuts: list[tuple[str, str, int]], each: int) -> None:
        """Of every cut so many moments, spread evenly; all are met at least in part."""
        tried = 0
        for cut in cuts if self.site.soak is None else self.site.soak.drawn(cuts):
            left = self.cut_short(*cut)
            chosen = [left[place * len(left) // each] for place in range(each)] if len(left) > each else left
            tried += len(self.site.everywhere([partial(self.goes_on, " ".join(map(str, cut)), one) for one in chosen]))
        assert tried
        assert not self.faults, f"{len(self.faults)} of {tried} moments:\n" + "\n".join(self.faults)


@pytest.mark.usefixtures("strace")
def test_the_power_fails_after_a_run_that_was_cut_short(site: Site) -> None:
    """What a run that was killed, or whose sync failed, left behind is built upon only once it is safe."""
    Twice(site).try_them([("rename", "signal=KILL", 4), ("fsync", "error=EIO", 9)], 8)


@pytest.mark.soak
@pytest.mark.usefixtures("strace")
def test_the_power_fails_after_any_run_that_was_cut_short(site: Site) -> None:
    """And here wherever it was cut short."""
    kinds = (("rename", "signal=KILL"), ("fsync", "signal=KILL"), ("fsync", "error=EIO"), ("fdatasync", "error=EIO"))
    Twice(site).try_them([(*kind, when) for kind in kinds for when in range(1, 41)], 12)


class Later:
    """The power fails in a run with `flags` after a whole one, of whose rows `refused` had failed; then the same again."""

    def __init__(self, site: Site, url: str, flags: str, refused: int) -> None:
        self.site = site
        self.flags = (flags,)
        self.refused = refused
        self.faults: list[str] = []
        folder = site.fresh()
        ended = site.benches[0].run(folder, url=url if refused else None)
        assert ended.code == int(refused > 0), ended.said
        self.kept = (folder / "out" / "results.parquet").read_bytes()
        site.template = folder / "out"

    def moments(self) -> list[Moment]:
        folder = self.site.fresh()
        disk = Disk(folder)
        disk.load()
        return traced(self.site, folder, disk, *self.flags)

    def goes_on(self, moment: Moment, bench: Bench) -> None:
        folder = self.site.fresh()
        out = folder / "out"
        shutil.rmtree(out)
        put(folder, moment.left)
        try:
            again = bench.run(folder, *self.flags)
            assert again.code == 0, again.said
            attempts, unconfirmed = audit(out, ROWS)
            if self.refused:
                assert again.received <= self.refused, "an answer was asked again"
                assert attempts == ROWS + self.refused + unconfirmed, f"{attempts} attempts are told"
            else:
                assert again.received == ROWS
                assert self.kept in [path.read_bytes() for path in out.rglob("results.parquet")], "the old run is lost"
        except Exception as fault:
            self.faults.append(
                f"after {moment.last}: names remembered: {moment.way}: {str(fault).partition(chr(10))[0]}"
            )

    def try_them(self, choose: Callable[[list[Moment]], list[Moment]]) -> None:
        tried = self.site.everywhere([partial(self.goes_on, one) for one in choose(self.moments())])
        assert not self.faults, f"{len(self.faults)} of {len(tried)} moments:\n" + "\n".join(self.faults)


@pytest.mark.soak
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(("flags", "refused"), [("--retry-failed", 2), ("--fresh", 0)], ids=["retried", "fresh"])
def test_the_power_fails_in_a_later_run(site: Site, refusing: str, flags: str, refused: int) -> None:
    """At any moment of a run that asks failed rows again, or sets the old one aside: what was answered, counted or kept
    before stays.
    """
    Later(site, refusing, flags, refused).try_them(lambda found: found)
