"""The program's own stdout and stderr, made so that showing something can do no harm (contract.md §3).

What can't be written to stderr is dropped, and stdout's too in a command whose work is more than what it shows; elsewhere a
stdout that can't be written ends the command. What an encoding lacks is written in ASCII.
"""

import codecs
import contextlib
import errno
import os
import sys
from typing import Any, TextIO, cast

from batchrun.errors import BatchrunError

_STAND_INS = str.maketrans(
    {"─": "-", "–": "-", "→": "->", "…": "...", "·": "*", "×": "x", "█": "#", "“": '"', "”": '"', "’": "'"}
)
_ERRORS = "batchrun.shown"


class OutputError(BatchrunError):
    """stdout can't be written. A reader that has gone is no fault of anybody's: exit 141, as of `cat | head`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written: {error.strerror or error}")
        self.is_quiet = error.errno == errno.EPIPE
        self.exit_code = 141 if self.is_quiet else 2


class Shown:
    """A text stream like the one inside; where `is_strict` a failed write is an OutputError, else it is nothing."""

    def __init__(self, inner: TextIO, *, is_strict: bool) -> None:
        self._inner = inner
        self.is_strict = is_strict

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        try:
            return self._inner.write(text)
        except (OSError, ValueError) as error:  # the latter of a stream that somebody has closed
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._inner.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: OSError | ValueError) -> None:
        if self.is_strict and isinstance(error, OSError):
            raise OutputError(error) from None


def shelter() -> None:
    """Put both streams under cover. Comes first in the program: a file that is opened while a standard stream is closed
    would get its number, and with it all that is written there.
    """
    codecs.register_error(_ERRORS, _stand_in)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one
    for name, number, is_strict in (("stdout", 1, True), ("stderr", 2, False)):
        stream = getattr(sys, name) or open(number, "w", closefd=False)  # noqa: SIM115 - as long as the process
        with contextlib.suppress(AttributeError, OSError):  # of a stream that somebody has put in its place
            stream.reconfigure(errors=_ERRORS)
        setattr(sys, name, Shown(stream, is_strict=is_strict))


def stdout_matters_less() -> None:
    """From here on, what this command does counts, and not whether its stdout can be written."""
    stdout = cast("Any", sys.stdout)
    if isinstance(stdout, Shown):
        stdout.is_strict = False


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_STAND_INS)
    return text.encode("ascii", "backslashreplace"), error.end
