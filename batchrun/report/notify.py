"""Telling somebody elsewhere: that a run is complete, has stopped, or is paused for long. A listener to its events.

A command gets the news as JSON on stdin, a URL as a JSON POST. Works in threads of its own; what fails is noted, and never a
fault of the run. The news hold no key, and a command does not find the run's key in its environment.
"""

import datetime
import os
import subprocess
import threading
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from batchrun.events import Began, Ended, Event, Held, Paused, Released, Resumed, Waiting
from batchrun.sections import Notify

_COMMAND_S = 60.0
_POST_S = 10.0
_WAIT_S = 20.0
_LONGEST_S = 1e6


class Notifier:
    """`path` names the run, `settings.url` is the URL itself. `secrets` are names of variables that commands don't get, `note`
    is told what fails.
    """

    def __init__(self, settings: Notify, path: str, secrets: Collection[str], note: Callable[[str], None]) -> None:
        self._settings = settings
        self._path = path
        self._environ = {name: value for name, value in os.environ.items() if name not in secrets}
        self._note = note
        self._requests = 0
        self._timer: threading.Timer | None = None
        self._sending: list[threading.Thread] = []

    def hear(self, event: Event) -> None:
        """Start to tell what one event is worth."""
        match event:
            case Began():
                self._requests = event.requests
            case Paused() | Waiting(probed=True):
                self._paused(event.error.message)
            case Held():
                self._paused("by batchrun pause")
            case Resumed() | Released():
                self._cancel()
            case Ended():
                self._cancel()
                state = "complete" if event.message is None else "stopped"
                counts = {"ok": event.ok, "failed": event.failed, "exit_code": event.exit_code}
                self._send(state, message=event.message, **counts)

    def finish(self) -> None:
        """Wait until all is told, for some seconds at most."""
        for thread in self._sending:
            thread.join(_WAIT_S)

    def _paused(self, why: str) -> None:
        if self._timer is None and (self._settings.command or self._settings.url):
            self._timer = threading.Timer(
                min(self._settings.paused_s, _LONGEST_S), self._send, ("paused",), {"message": why}
            )
            self._timer.daemon = True
            self._timer.start()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, event: str, **what: Any) -> None:
        at = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        news = {"event": event, "path": self._path, "at": at, "requests": self._requests, **what}
        text = msgspec.json.encode({name: _clean(value) for name, value in news.items()})
        told: list[tuple[Callable[[str, bytes], None], str | None]] = [
            (self._run, self._settings.command),
            (self._post, self._settings.url),
            (self._run, self._settings.on_end if event != "paused" else None),
        ]
        for tell, whom in told:
            if whom:
                thread = threading.Thread(target=tell, args=(whom, text), daemon=True)
                thread.start()
                self._sending.append(thread)

    def _run(self, command: str, text: bytes) -> None:
        try:
            done = subprocess.run(  # noqa: S602 - the user's own command, as a shell reads it
                command,
                shell=True,
                input=text,
                env=self._environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_COMMAND_S,
                start_new_session=True,  # a Ctrl-C that ends the run is not meant for it
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._note(f"[notify] the command could not be run: {type(error).__name__}")
            return
        if done.returncode:
            self._note(f"[notify] the command ended with exit code {done.returncode}")

    def _post(self, url: str, text: bytes) -> None:
        import urllib.error  # late: HTTP takes a while to load, and few jobs tell a URL
        import urllib.request

        try:
            request = urllib.request.Request(url, text, {"Content-Type": "application/json"})  # noqa: S310 - checked in job.py
            with urllib.request.urlopen(request, timeout=_POST_S):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            self._note(f"[notify] the url answered HTTP {error.code}")
        except (OSError, ValueError) as error:  # its text may hold the URL, which may be a secret
            self._note(f"[notify] the url could not be told: {type(error).__name__}")


def _clean(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
