"""Programs on a terminal of their own."""

import contextlib
import fcntl
import os
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvpe(sys.argv[1], sys.argv[1:], os.environ)
"""


class Terminal:
    """A terminal with a program on it, which leads its session; what it shows is read away until it is closed."""

    def __init__(self, start: Callable[["Terminal"], Any]) -> None:
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")
        os.set_blocking(self.master, False)
        self.name = os.ttyname(self.slave)
        self.process = start(self)
        self._seen = b""

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.master, 1 << 16)
        return b""

    def seen(self) -> str:
        """All that was shown until now."""
        with contextlib.suppress(OSError):  # of a terminal that its program has left
            self._seen += self.read()
        return self._seen.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        """Hang it up."""
        if self.master >= 0:
            os.close(self.slave)
            os.close(self.master)
        self.master = -1


def program(line: Sequence[str], **where: Any) -> Callable[[Terminal], "subprocess.Popen[bytes]"]:
    """Starts a program from nothing on a terminal; a fork of a warm process is given the terminal's name instead."""

    def start(on: Terminal) -> "subprocess.Popen[bytes]":
        its = dict.fromkeys(("stdin", "stdout", "stderr"), on.slave)
        return subprocess.Popen([sys.executable, "-c", ON_A_TERMINAL, *line], start_new_session=True, **its, **where)

    return start


def until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
