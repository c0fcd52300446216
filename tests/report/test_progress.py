"""What a person sees of a run while it goes on, in a terminal and elsewhere."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import termios

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.events import Done, Dropped, Learnt, Narrowed, Paused, Resumed, Retried, Waiting
from batchrun.records import Result
from batchrun.report import progress
from batchrun.report.progress import Progress


def result(row: int) -> Result:
    return Result(row, str(row), "default", 0, "h", "ok", total_tokens=10, cost=500_000_000_000)


@pytest.mark.parametrize(("lines", "columns"), [(24, 100), (0, 0), (0, 100), (24, 0)])
def test_the_bar_is_drawn_in_a_terminal_of_any_size(lines: int, columns: int) -> None:
    """A terminal that doesn't know its size, as those of CI and of programs that drive others, shows the bar too."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with os.fdopen(master, "rb", closefd=True) as seen, os.fdopen(slave, "w", encoding="utf-8") as out:
        shown = Progress("bar", 2, out)
        shown.hear(Done(result(0)))
        shown.hear(Done(result(1)))
        shown.close()
        out.flush()
        text = ""
        # a terminal hands over what was written piece by piece, and some of it later
        while not ("2/2" in text and "20 tok, $1.0000, 0 failed" in text):
            assert select.select([seen], [], [], 10.0)[0], text
            text += os.read(seen.fileno(), 65536).decode(errors="replace")


def test_fewer_in_flight_are_told_with_the_flag_for_it() -> None:
    """An endpoint that takes fewer at once than it was given: a line with the number, why, and what to write next time; a
    limit that is dropped has one too.
    """
    out = io.StringIO()
    shown = Progress("log", 2, out)
    shown.hear(Narrowed(4))
    shown.hear(Narrowed(1, broken=True))
    shown.hear(Dropped("m", ["input_tokens", "requests"]))
    four, one, dropped = out.getvalue().splitlines()
    assert four[8:] == (
        " the endpoint takes about 4 at once and refuses more: that is kept; next time use --concurrency 4"
    )
    assert one[8:] == (
        " the endpoint takes about 1 at once and breaks off what it answers when more come: that is kept; "
        "next time use --concurrency 1"
    )
    assert dropped[8:] == (
        " the endpoint's counter of input tokens and requests for m stands still while it answers: its limit is no longer kept"
    )


def test_a_spent_quota_is_told_with_its_end() -> None:
    """Until when, as people say it, and that a probe is sent now and then; and where nobody says until when."""
    out = io.StringIO()
    shown = Progress("log", 2, out)
    shown.hear(Waiting(40 * 86_400.0, EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent"), probed=True))
    shown.hear(Waiting(None, EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent"), probed=True))
    shown.hear(Waiting(None, EndpointError(Kind.RATE_LIMITED, "HTTP 429: spent", quota="day"), probed=True))
    known, unknown, daily = out.getvalue().splitlines()
    until = r"until \d\d:\d\d on \d{4}-\d\d-\d\d, with one probe now and then: HTTP 429: spent"
    assert re.fullmatch(r"[\d:]{8} the endpoint asks to wait 960:00:00, " + until, known)
    until = "the endpoint does not say when it is renewed, so one probe is sent now and then: HTTP 429: spent"
    assert unknown[8:] == f" a quota is spent; {until}"
    assert daily[8:] == f" the quota of a day is spent; {until}"


def test_what_happens_to_the_endpoint_is_told() -> None:
    """A limit that is kept, a pause with its length, its end, a wait that is asked for: a line each."""
    out = io.StringIO()
    shown = Progress("log", 2, out)
    shown.hear(Learnt("gpt-x", {"requests": 500, "input_tokens": 40_000}))
    shown.hear(Paused(EndpointError(Kind.CONNECT, "cannot connect to host:80: Connection refused"), 3600.0))
    shown.hear(Paused(EndpointError(Kind.CREDIT, "no credit"), 0.0))
    shown.hear(Resumed(754.2))
    shown.hear(Waiting(3600.0, EndpointError(Kind.RATE_LIMITED, "HTTP 429: slow down")))
    limits, wait, probe, back, asked = out.getvalue().splitlines()
    assert limits[9:] == "the endpoint allows 500 requests and 40,000 input tokens a minute for gpt-x: that is kept"
    assert wait[8:] == (
        " paused, probing the endpoint for up to 1:00:00: cannot connect to host:80: Connection refused"
    )
    assert probe[8:] == " paused, probing the endpoint: no credit"
    assert back[8:] == " the endpoint answers again, after 12:34"
    assert re.fullmatch(
        r"[\d:]{8} the endpoint asks to wait 1:00:00, until \S+( tomorrow)?: HTTP 429: slow down", asked
    )
    assert all(line[2] == line[5] == ":" for line in (wait, probe, back))


def test_a_pause_is_quiet_and_does_not_count_as_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it probes a run logs a line a minute and says that it is paused; afterwards the pace is that of what follows."""
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    out = io.StringIO()
    shown = Progress("log", 400, out)
    error = EndpointError(Kind.SERVER, "HTTP 502: Bad Gateway")
    for number in range(100):
        now += 0.1
        shown.hear(Done(result(number)))
    shown.hear(Paused(error, 7190.0))
    out.truncate(0)
    for _ in range(720):
        now += 5.0
        shown.hear(Retried(error))
    lines = out.getvalue().splitlines()
    assert 55 <= len(lines) <= 60
    assert all(line.endswith(", paused") for line in lines)
    shown.hear(Resumed(3600.0))
    lines = len(out.getvalue().splitlines())
    shown.hear(Done(result(99)))
    assert len(out.getvalue().splitlines()) == lines, "the first answer alone has no pace"
    for number in range(100, 200):
        now += 0.1
        shown.hear(Done(result(number)))
    last = out.getvalue().splitlines()[-1]
    assert re.search(r" (9\.9|10\.[01]) req/s, 0:(19|2\d) left", last), last
    assert "paused" not in last


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 200])
def test_a_narrow_bar_keeps_what_the_run_waits_for(columns: int) -> None:
    """That a run is paused, or asks again, stands at the head of the bar, in a terminal of any width, until it goes on."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(master, "rb", closefd=True) as seen, os.fdopen(slave, "w", encoding="utf-8") as out:
        shown = Progress("bar", 200, out)

        def until(pattern: str) -> None:
            text = ""
            while not re.search(pattern, text):
                assert select.select([seen], [], [], 10.0)[0], text
                text += os.read(seen.fileno(), 65536).decode(errors="replace")

        shown.hear(Retried(EndpointError(Kind.SERVER, "HTTP 500")))
        until("\rretrying: server: ")
        shown.hear(Paused(EndpointError(Kind.CONNECT, "refused"), 0.0))
        until("\rpaused: ")
        shown.hear(Resumed(3.0))
        shown.hear(Done(result(0)))
        shown.close()
        until("\r  0%|")
