"""System calls of a run as points at which something can happen to it: traces of strace, and its injections."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import PID, Bench, Site

KINDS = (
    *("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "fallocate"),
    *("fsync", "fdatasync", "sync_file_range", "msync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("ftruncate", "truncate", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("openat", "open", "creat", "chmod", "fchmod", "fchmodat"),
)
WIRE = {"sendto": "POST /", "recvfrom": "HTTP/1.1 200"}
STAMP = re.compile(r"\d{8}T\d{6}(-\d+)?")
OF_ITS_WRITER = re.compile(r"(/reserve-.+-)\d+$")
TRIES = 5
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")


class Point(NamedTuple):
    """One system call of a run: the `when`-th one of its kind and thread, on `path` where its name is known before (PID in
    it stands for the run's own).
    """

    kind: str
    path: str | None
    when: int
    shown: str

    @property
    def is_data(self) -> bool:
        """One of hundreds of writes into a Parquet file that has no name yet."""
        return self.kind == "write" and self.shown.endswith(".parquet.tmp")


class Calls:
    """What a test does with system calls: record those of a clean run, and let something happen at one of them."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def record(self, *flags: str) -> list[Point]:
        """The points of one clean run: each call that changes something in the run directory, sends or hears."""
        folder = self.site.fresh()
        trace = folder / "trace"
        kinds = ",".join("?" + kind for kind in (*KINDS, *WIRE))
        options = ["-y", "-s", "300", "-o", str(trace), "-e", f"trace={kinds}"]
        ended = self.site.benches[0].run(folder, *flags, strace=options)
        assert ended.code == 0, ended.said
        return points(trace.read_text(errors="replace").splitlines(), str(folder / "out"))

    @staticmethod
    def inject(point: Point, out: Path, what: str, *, onward: bool = False, log: str = "/dev/null") -> list[str]:
        """The options of strace that let `what` happen at a point, and with `onward` at each later call of its kind.

        The log tells whether it came to that: such calls are marked (INJECTED).
        """
        place = [] if point.path is None else ["-P", str(out / point.path)]
        when = f"{point.when}{'+' if onward else ''}"
        return [*place, "-o", log, "-e", f"trace={point.kind}", "-e", f"inject={point.kind}:{what}:when={when}"]


def tried_again(site: Site, trials: Sequence[Callable[[Bench], bool]]) -> list[bool]:
    """Do the trials, each of which says whether its point was met; one that was not is tried again, a few times.

    A count is one thread's, and which of several threads takes a step is the scheduler's business: on a busy machine often
    another one than in the recording.
    """
    return site.everywhere([partial(_is_met, trial) for trial in trials])


def _is_met(trial: Callable[[Bench], bool], bench: Bench) -> bool:
    return any(trial(bench) for _ in range(TRIES))


def assert_met(met: Sequence[bool]) -> None:
    """Almost all points were met; a few are of one moment alone, as how often a journal is synced."""
    missed = len(met) - sum(met)
    assert missed <= max(1, len(met) // 10), f"{missed} of {len(met)} points were not met again, in {TRIES} tries each"


def points(lines: list[str], out: str) -> list[Point]:
    """strace -f -y's lines as points. Counts are kept as strace keeps them: for each thread and kind, or path of it."""
    seen: dict[tuple[str, str, str | None], int] = {}
    found: dict[Point, None] = {}
    for line in lines:
        matched = CALL.match(line)
        if matched is None:
            continue
        thread, kind, rest = matched.groups()
        names = [name.split("/", 1)[-1] if "/" in name else "." for name in _names(rest, out)]
        for key in {None, *names}:
            seen[thread, kind, key] = seen.get((thread, kind, key), 0) + 1
        if kind in WIRE:
            if WIRE[kind] in rest:
                found[Point(kind, None, seen[thread, kind, None], WIRE[kind])] = None
            continue
        if not names or (kind in ("openat", "open") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", rest)):
            continue
        known = None if STAMP.search(names[0]) else names[0]
        shown = STAMP.sub("TIME", " ".join(names))
        if known is None and kind == "write":
            continue
        found[Point(kind, known, seen[thread, kind, known], shown)] = None
    return list(found)


def _names(rest: str, out: str) -> list[str]:
    """The run directory's paths in a call's arguments: `"path"`, or `fd<path>` as its first one."""
    handle = re.match(r"\d+<([^>]*)>", rest)
    texts = [handle[1]] if handle is not None else re.findall(r'"([^"]*)"', rest)
    ours = [OF_ITS_WRITER.sub(rf"\1{PID}", text) for text in texts if text == out or text.startswith(out + "/")]
    return [text.removeprefix(out[: out.rfind("/") + 1]) for text in ours]
