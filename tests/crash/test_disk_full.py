"""A disk that fills up while a run is under way: it stops, says to free space, and goes on when that is done."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import Bench, Ended, Site, make_bench
from books import audit

from batchrun.embedded import Behaviour
from forks import warmed
from served import Endpoints

CONCURRENCY = 8
ROWS = 400
DISK = "8m"
FILE_BYTES = 40_000
IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


class SmallDisk:
    """A site whose one try lives on a disk of its own, which only the bench's processes have mounted."""

    def __init__(self, site: Site, folder: Path, bench: Bench) -> None:
        self.site = site
        self.folder = folder
        self.bench = bench
        self.seen = Path(f"/proc/{bench.warm.pid}/root{folder}")

    def fill(self) -> None:
        """Take all the space that is left, to the last byte, as another program might."""
        with (self.seen / "ballast").open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def free(self) -> None:
        (self.seen / "ballast").unlink()


@pytest.fixture(scope="module")
def mounted(embedded: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """Skips where no small disk can be mounted; where the suite is the judge (CI) that is a failure."""
    mount = ("sh", "-c", f'mount -t tmpfs -o size={DISK},mode=700 none "$0" && exec "$@"')
    site = Site(tmp_path_factory.mktemp("small").resolve() / "site", [])
    folder = site.fresh()
    try:
        tried = subprocess.run(
            [*IN_A_NAMESPACE, *mount, str(folder), "true"], capture_output=True, text=True, check=False
        )
        refused = tried.stderr if tried.returncode else ""
    except FileNotFoundError as error:
        refused = str(error)
    if refused:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"a small disk cannot be mounted here: {refused.strip()}")
    slow = Behaviour(slots=CONCURRENCY, first_token_s=0.02)
    with (
        warmed([*IN_A_NAMESPACE, *mount, str(folder)]) as warm,
        make_bench(embedded, warm, slow) as bench,
    ):
        site.benches.append(bench)
        site.write_rows(ROWS)
        yield SmallDisk(site, folder, bench)


@pytest.fixture
def small_disk(mounted: SmallDisk) -> Iterator[SmallDisk]:
    """The small disk, with nothing on it."""
    yield mounted
    for path in mounted.seen.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def assert_stopped(ended: Ended, folder: Path, remedy: str) -> None:
    assert ended.code == 3, ended
    assert "Traceback" not in ended.said
    assert str(folder / "out") in ended.said, f"no path: {ended.said}"
    assert remedy in ended.said.lower(), f"no remedy: {ended.said}"
    assert "run the same command again" in ended.said, f"no way on: {ended.said}"


def assert_completes(bench: Bench, out: Path, stopped: Ended, again: Ended) -> None:
    """Right books; asked again is at most what was in flight, and it is confessed."""
    assert again.code == 0, again.said
    _attempts, unconfirmed = audit(out, ROWS)
    asked_again = stopped.received + again.received - ROWS
    print(f"{stopped.received} asked before the disk was full; {asked_again} asked again, {unconfirmed} unconfirmed")
    assert 0 <= asked_again <= CONCURRENCY
    assert asked_again <= unconfirmed
    assert bench.stats()["errors"] == 0


def test_a_full_disk(small_disk: SmallDisk) -> None:
    """Filled up by another program in the middle of a run: exit 3; with space freed the same command completes."""
    bench, folder = small_disk.bench, small_disk.folder
    running = bench.start(folder, concurrency=CONCURRENCY, shard_requests=100)
    running.until(received=150)
    small_disk.fill()
    stopped = running.wait()
    full = os.statvfs(small_disk.seen)
    small_disk.free()
    again = bench.run(folder, concurrency=CONCURRENCY, shard_requests=100)
    assert_completes(bench, small_disk.seen / "out", stopped, again)
    assert_stopped(stopped, folder, "space")
    assert full.f_bavail * full.f_frsize < 2**20, "the disk was not full"


def test_a_disk_that_is_full_before_the_run(small_disk: SmallDisk) -> None:
    """Nothing is sent, and nothing is lost: the message names the place; with space freed the same command completes."""
    bench, folder = small_disk.bench, small_disk.folder
    small_disk.fill()
    stopped = bench.run(folder, concurrency=CONCURRENCY)
    assert stopped.code in (2, 3), stopped
    assert stopped.received == 0
    assert str(folder / "out") in stopped.said
    assert "Traceback" not in stopped.said
    small_disk.free()
    again = bench.run(folder, concurrency=CONCURRENCY, shard_requests=100)
    assert_completes(bench, small_disk.seen / "out", stopped, again)


def test_a_limit_on_the_size_of_files(slow_site: Site) -> None:
    """A journal that grows to the limit (`ulimit -f`) stops the run with exit 3; without the limit it goes on."""
    (bench,) = slow_site.benches
    slow_site.write_rows(ROWS)
    folder = slow_site.fresh()
    settings = {"concurrency": CONCURRENCY, "shard_requests": 1000}
    stopped = bench.run(folder, file_bytes=FILE_BYTES, **settings)
    again = bench.run(folder, **settings)
    assert_completes(bench, folder / "out", stopped, again)
    assert_stopped(stopped, folder, os.strerror(errno.EFBIG).lower())
