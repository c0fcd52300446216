"""What a person sees of a run while it goes on, in a terminal and elsewhere."""

import fcntl
import io
import os
import pty
import re
import struct
import termios

import pytest

from batchrun.errors import EndpointError, Kind
from batchrun.progress import Progress
from batchrun.records import Result


def result(row: int) -> Result:
    return Result(row, str(row), "default", 0, "h", "ok", total_tokens=10)


@pytest.mark.parametrize(("lines", "columns"), [(24, 100), (0, 0), (0, 100), (24, 0)])
def test_the_bar_is_drawn_in_a_terminal_of_any_size(lines: int, columns: int) -> None:
    """A terminal that doesn't know its size, as those of CI and of programs that drive others, shows the bar too."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with os.fdopen(master, "rb", closefd=True) as seen, os.fdopen(slave, "w", encoding="utf-8") as out:
        shown = Progress("bar", 2, lambda _result: 0.5, out)
        shown.result(result(0), stored=False)
        shown.result(result(1), stored=False)
        shown.close()
        text = os.read(seen.fileno(), 65536).decode()
    assert "2/2" in text
    assert "20 tok, $1.0000, 0 failed" in text


def test_what_happens_to_the_endpoint_is_told() -> None:
    """A limit that is kept, a pause with its length, its end, a wait that is asked for: a line each."""
    out = io.StringIO()
    shown = Progress("log", 2, lambda _result: 0.0, out)
    shown.learnt("gpt-x", {"requests": 500, "input_tokens": 40_000})
    shown.pause(EndpointError(Kind.CONNECT, "cannot connect to host:80: Connection refused"), 3600.0)
    shown.pause(EndpointError(Kind.CREDIT, "no credit"), 0.0)
    shown.resume(754.2)
    shown.waiting(3600.0, EndpointError(Kind.RATE_LIMITED, "HTTP 429: slow down"))
    limits, wait, probe, back, asked = out.getvalue().splitlines()
    assert limits == "the endpoint allows 500 requests and 40,000 input tokens a minute for gpt-x: that is kept"
    assert wait[8:] == (
        " paused, probing the endpoint for up to 1:00:00: cannot connect to host:80: Connection refused"
    )
    assert probe[8:] == " paused, probing the endpoint: no credit"
    assert back[8:] == " the endpoint answers again, after 12:34"
    assert re.fullmatch(r"[\d:]{8} the endpoint asks to wait 1:00:00, until [\d:]{8}: HTTP 429: slow down", asked)
    assert all(line[2] == line[5] == ":" for line in (wait, probe, back))
