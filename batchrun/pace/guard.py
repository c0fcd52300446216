"""Faults that every row would meet stop the job, but not at the first sight of them (endpoint.md §4).

The first such fault closes the gate: nothing new starts. One probe goes out after a pause; only when it fails in such
a way too is the run stopped. A relay that drops one key of its pool for a second doesn't end an overnight job.
"""

from collections.abc import Callable

import anyio

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, EndpointError, Kind
from batchrun.records import Answer, Complete, Request

PROBE_AFTER_S = 2.0
CONNECT_FAULTS_IN_A_ROW = 20
_MENDS = {
    Kind.CREDENTIALS: "check the key in the variable that api_key_env names",
    Kind.CREDIT: "top up the account or raise its limit",
    Kind.NOT_FOUND: "check base_url and model",
    Kind.CONNECT: "check that the endpoint is up and base_url is right",
}


class Stopped(Exception):  # noqa: N818 - not an error of the request: it stays to be done
    """The gate is shut for good; the request was not answered and stays to be done."""


class _Closed(Exception):  # noqa: N818 - no error: the attempt waits at the gate and is made later
    """The gate closed while an attempt waited for its place; nothing was sent."""


class Guard:
    """Wraps the attempts of a run. `fault` is the one that shut it, None while it is open."""

    def __init__(
        self, clock: Clock, on_pause: Callable[[EndpointError], None], probe_after_s: float = PROBE_AFTER_S
    ) -> None:
        self.fault: EndpointError | None = None
        self.shut = anyio.Event()
        self._clock = clock
        self._on_pause = on_pause
        self._probe_after_s = probe_after_s
        self._open = anyio.Event()
        self._open.set()
        self._connect_faults = 0
        self._probe_request: Request | None = None

    def wrap(self, inner: Complete) -> Complete:
        async def complete(request: Request) -> Answer:
            while True:
                if not self._open.is_set():
                    await self._open.wait()
                if self.fault is not None:
                    raise Stopped
                try:
                    answer = await inner(request)
                except _Closed:
                    continue
                except EndpointError as error:
                    if not self._shuts(error):
                        raise
                    if self._open.is_set():
                        return await self._probe(inner, request, error)
                    continue
                self._connect_faults = 0
                return answer

        return complete

    def admit(self, inner: Complete) -> Complete:
        """The gate's other side, next to the wire: what waited for its place while the gate closed is sent back."""

        async def complete(request: Request) -> Answer:
            if not self._open.is_set() and request is not self._probe_request:
                raise _Closed
            return await inner(request)

        return complete

    def message(self) -> str:
        """What stopped the run, with the mend."""
        assert self.fault is not None
        return f"stopped ({self.fault.kind}): {self.fault.message}; {_MENDS[self.fault.kind]}"

    def _shuts(self, error: EndpointError) -> bool:
        if error.kind is Kind.CONNECT:
            self._connect_faults += 1
            return self._connect_faults >= CONNECT_FAULTS_IN_A_ROW
        if error.kind not in FATAL_KINDS:
            self._connect_faults = 0
            return False
        return True

    async def _probe(self, inner: Complete, request: Request, error: EndpointError) -> Answer:
        self._open = anyio.Event()
        self._probe_request = request
        self._on_pause(error)
        try:
            await self._clock.sleep(self._probe_after_s)
            try:
                answer = await inner(request)
            except EndpointError as again:
                if again.kind in FATAL_KINDS or again.kind is Kind.CONNECT:
                    self.fault = again
                    self.shut.set()
                    raise Stopped from again
                self._connect_faults = 0
                raise
            self._connect_faults = 0
            return answer
        finally:
            self._probe_request = None
            self._open.set()
