"""What a Python caller sees of a run: tqdm's bar in a terminal and in a notebook, and what happens through `logging`."""

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

from batchrun.errors import JobError
from batchrun.events import Event, Hear
from batchrun.report.progress import Progress
from batchrun.report.teller import Teller
from batchrun.report.words import words

Shows = Literal["auto", "bar", "log", "none"]
MODES = ("auto", "bar", "log", "none")
LOGGER = logging.getLogger("batchrun")


class Display:
    """`progress` is auto (a bar in a terminal and in a notebook, nothing elsewhere), bar, log (a line every few seconds) or
    none. Raises JobError for another.
    """

    def __init__(self, progress: str) -> None:
        if progress not in MODES:
            raise JobError(f"progress = {progress!r}: give one of {', '.join(MODES)}")
        self._mode = progress
        self._shown: Progress | None = None

    def listening(self, total: int, made: Callable[[], Hear] | None) -> Hear:
        """A listener to a run of so many requests: what is shown, what is logged, and the caller's own, which can't break
        the run, neither when it is made nor when it hears.
        """
        listeners: list[Hear] = []
        mode = _mode(self._mode)
        if mode != "none":
            self._shown = Progress(mode, total)
            listeners.append(self._shown.hear)
        if LOGGER.isEnabledFor(logging.INFO):
            listeners.append(Teller(_log).hear)
        if made is not None:
            listeners.extend(_made(made))
        if len(listeners) == 1:
            return listeners[0]

        def hear(event: Event) -> None:
            for one in listeners:
                one(event)

        return hear

    def close(self) -> None:
        if self._shown is not None:
            self._shown.close()


def noted(on_note: Callable[[str], None] | None) -> Callable[[str], None]:
    """Who takes single messages: the caller's own function, else `logging`."""
    return on_note or LOGGER.info


def _log(record: dict[str, Any]) -> None:
    LOGGER.info("%s", words(record))


def _made(made: Callable[[], Hear]) -> list[Hear]:
    """The caller's own listener, or none where it could not be made, which is logged."""
    try:
        own = made()
        if not callable(own):
            raise TypeError(f"`listener` is called with the number of requests and the prices, and made {own!r}")
    except Exception:
        LOGGER.exception("the listener could not be made; the run goes on without it")
        return []
    return [_guarded(own)]


def _guarded(hear: Hear) -> Hear:
    """A listener whose exceptions are logged, the first of them with its traceback, and end nothing."""
    failed = False

    def safely(event: Event) -> None:
        nonlocal failed
        try:
            hear(event)
        except Exception:
            if not failed:
                LOGGER.exception("a listener failed; the run goes on")
            failed = True

    return safely


def _mode(progress: str) -> str:
    if in_notebook():
        return {"auto": "notebook", "bar": "notebook"}.get(progress, progress)
    if progress != "auto":
        return progress
    return "bar" if sys.stderr.isatty() else "none"


def in_notebook() -> bool:
    """Whether this is a notebook's kernel, whose output is a page."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
