"""The log of a run: what is written of its events, and that it can neither grow without end nor end a run."""

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import (
    Absent,
    Began,
    Done,
    Draining,
    Dropped,
    Ended,
    Event,
    Learnt,
    Narrowed,
    Paused,
    Resumed,
    Retried,
    Waiting,
)
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Result
from batchrun.report.log import Log, following, records
from batchrun.report.words import words

DOWN = EndpointError(Kind.SERVER, "HTTP 502: Bad Gateway")
OK = Done(Result(0, "0", "default", 0, "h", "ok"))


def failed(row: int, kind: str, message: str = "no") -> Done:
    return Done(Result(row, f"r{row}", "default", 0, "h", "failed", error_kind=kind, error_message=message))


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    found = RunDir(str(tmp_path / "out"))
    with found.held():
        yield found


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def told(run_dir: RunDir, *events: Event) -> list[str]:
    log = Log(run_dir, Clock())
    for event in events:
        log.hear(event)
    return [one["event"] for one in records(run_dir)]


def test_the_story_of_a_run_is_written(run_dir: RunDir) -> None:
    """Each event that a person may ask about, with its time and zone; an answer is none."""
    events = (
        Began(20, resumed=True, broke_off=True),
        OK,
        Learnt("m", {"requests": 500.0}),
        Paused(DOWN, 60.0),
        Resumed(61.5),
        Waiting(90.0, DOWN),
        Waiting(None, DOWN, probed=True),
        Dropped("m", ["requests"]),
        Narrowed(4),
        Absent("m2", DOWN),
        Draining(3, 10.0),
        Ended(12, 1, "interrupted by SIGTERM", 143),
    )
    expected = ["resumed", "limits learnt", "paused", "going on", "waiting", "waiting"]
    expected += ["limits dropped", "fewer at once", "model left", "draining", "stopped"]
    assert told(run_dir, *events) == expected
    assert not [one for one in records(run_dir) if words(one).startswith(f"{one['event']}: {{")]
    first, *_rest, last = records(run_dir)
    assert datetime.datetime.fromisoformat(first["at"]).tzinfo is not None
    assert first["broke_off"] is True
    assert (last["ok"], last["failed"], last["exit_code"], last["message"]) == (12, 1, 143, "interrupted by SIGTERM")


def test_the_first_failure_of_each_kind_is_written(run_dir: RunDir) -> None:
    """A thousand failures of one kind are one line; rows that can't be asked are none."""
    bad_row = Done(Result(9, "r9", "default", 0, "h", "failed", error_kind="credit"), asked=False)
    many = [failed(n, "bad_request") for n in range(1000)]
    assert told(run_dir, bad_row, *many, failed(5, "server")) == ["first failure", "first failure"]
    assert [(one["kind"], one["row"]) for one in records(run_dir)] == [("bad_request", 0), ("server", 5)]


def test_retries_are_counted_by_the_minute(run_dir: RunDir) -> None:
    """Retries are one line a minute, by kind; the last ones are told at the end."""
    clock = Clock()
    log = Log(run_dir, clock)
    limited = Retried(EndpointError(Kind.RATE_LIMITED, "HTTP 429"))
    for _ in range(130):
        log.hear(Retried(DOWN))
        log.hear(limited)
        clock.now += 1.0
    log.hear(Ended(1, 0))
    kinds = [one["kinds"] for one in records(run_dir) if one["event"] == "retries"]
    assert len(kinds) == 3
    assert [sum(one[kind] for one in kinds) for kind in ("server", "rate_limited")] == [130, 130]


def test_it_stays_small(run_dir: RunDir) -> None:
    """Of a log that grows too long the older part goes; a long message is cut."""
    log = Log(run_dir, most_bytes=10_000)
    for number in range(500):
        log.hear(Waiting(float(number), EndpointError(Kind.RATE_LIMITED, "x" * 5000)))
    assert run_dir.log.stat().st_size <= 10_000
    kept = [one["seconds"] for one in records(run_dir)]
    assert 10 < len(kept) < 40
    assert kept == [float(n) for n in range(500 - len(kept), 500)]


@pytest.mark.parametrize("broken", ["folder", "full"])
def test_it_can_not_end_a_run(run_dir: RunDir, broken: str) -> None:
    """Where it can't be written (the disk is full, somebody made a folder of it), nothing is raised."""
    if broken == "folder":
        run_dir.log.mkdir()
    else:
        run_dir.log.symlink_to("/dev/full")
    log = Log(run_dir)
    for event in (Began(1), Retried(DOWN), failed(1, "server", "a lone \ud800"), Ended(0, 1)):
        log.hear(event)


def test_a_torn_line_takes_no_other_along(run_dir: RunDir) -> None:
    """After a line that was cut short the next one stands by itself; only the owner may read the file."""
    told(run_dir, Began(1))
    with run_dir.log.open("ab") as file:
        file.write(b'{"at":"2026-01-')
    assert told(run_dir, Ended(1, 0)) == ["started", "complete"]
    assert run_dir.log.stat().st_mode & 0o777 == 0o600
    assert all(json.loads(line) for line in run_dir.log.read_text().splitlines() if line.endswith("}"))


def test_following_tells_what_comes_and_ends_with_the_run(run_dir: RunDir) -> None:
    """Every line once, in order, also over a log that begins again; then the end."""
    log = Log(run_dir, most_bytes=1200)
    left: list[Callable[[], Any]] = [
        *(lambda n=n: log.hear(Waiting(float(n), DOWN)) for n in range(30)),
        lambda: log.hear(Ended(1, 0)),
    ]
    log.hear(Began(1))
    events = following(run_dir, lambda: not left, lambda: left.pop(0)())
    found = list(events)
    assert [one["event"] for one in found] == ["started", *["waiting"] * 30, "complete"]
    assert [one["seconds"] for one in found[1:-1]] == [float(n) for n in range(30)]


def test_an_old_run_takes_its_log_along(run_dir: RunDir) -> None:
    """`--fresh` sets the log aside with the run that it is of."""
    told(run_dir, Began(1))
    (run_dir.log.parent / "run.json").write_text("{}")
    folder = run_dir.set_aside()
    assert not run_dir.log.exists()
    assert folder is not None
    assert (Path(folder) / "log.jsonl").is_file()
