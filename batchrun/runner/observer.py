"""Who is told of what happens in a run, and what this call counts of it. Decides nothing."""

import time
from collections.abc import Callable
from typing import Protocol

from batchrun.errors import EndpointError
from batchrun.records import Result


class Observer(Protocol):
    """Told of every result, every retry and every pause; prints or counts."""

    def result(self, result: Result, *, stored: bool) -> None:
        """One request has its result; `stored` ones were there before."""

    def retry(self, error: EndpointError) -> None:
        """One attempt failed and will be made again."""

    def pause(self, error: EndpointError, patience_s: float) -> None:
        """The endpoint refuses everybody; a probe follows, or more for so long."""

    def resume(self, after_s: float, answered: bool) -> None:
        """Requests are sent again; the endpoint answers, or it was waited for long enough."""

    def waiting(self, seconds: float, error: EndpointError) -> None:
        """The endpoint asks everybody to wait for so long."""

    def learnt(self, model: str, limits: dict[str, float]) -> None:
        """The endpoint states limits for a model, in units a minute, that are kept from now on."""

    def draining(self, in_flight: int, grace_s: float) -> None:
        """The run was told to stop."""

    def skip(self, requests: int) -> None:
        """So many requests stand in sealed shards, which are not read."""


class Silent:
    """An observer that keeps everything to itself."""

    def result(self, result: Result, *, stored: bool) -> None: ...

    def retry(self, error: EndpointError) -> None: ...

    def pause(self, error: EndpointError, patience_s: float) -> None: ...

    def resume(self, after_s: float, answered: bool) -> None: ...

    def waiting(self, seconds: float, error: EndpointError) -> None: ...

    def learnt(self, model: str, limits: dict[str, float]) -> None: ...

    def draining(self, in_flight: int, grace_s: float) -> None: ...

    def skip(self, requests: int) -> None: ...


class Counting:
    """Counts what this call `asked`, and what is `ok`, and passes everything on. `say` keeps what the run waits for where
    others can read it, an empty text when it waits no more.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = self.ok = 0
        self._say = say
        self.tell(Silent())

    def tell(self, inner: Observer) -> None:
        """Pass on to `inner` from now on."""
        self._inner = inner
        self.retry = inner.retry
        self.waiting = inner.waiting
        self.learnt = inner.learnt
        self.draining = inner.draining

    def skip(self, requests: int) -> None:
        self.ok += requests
        self._inner.skip(requests)

    def result(self, result: Result, *, stored: bool) -> None:
        self.asked += not stored
        self.ok += result.status == "ok"
        self._inner.result(result, stored=stored)

    def pause(self, error: EndpointError, patience_s: float) -> None:
        self._say(f"paused since {time.strftime('%Y-%m-%d %H:%M:%S %z')}, probing the endpoint: {error.message}")
        self._inner.pause(error, patience_s)

    def resume(self, after_s: float, answered: bool) -> None:
        self._say("")
        self._inner.resume(after_s, answered)
