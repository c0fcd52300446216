"""The hold: while a person has paused the run nothing new goes on the wire; what is there is waited for as ever.

It wraps the limits: who waits behind it has taken nothing from them, so that nothing bursts when the run goes on.
"""

from collections.abc import Callable

from batchrun.clock import Clock
from batchrun.records import Answer, Complete, Request
from batchrun.stop import StopSign

_LOOK_AGAIN_S = 0.5


class OnHold(Exception):  # noqa: N818 - no error: the attempt is made later
    """The run was paused while an attempt waited for its place; nothing was sent."""


class Hold:
    """`on` says whether the run is paused; `since` when it was, in the clock's seconds."""

    def __init__(self, clock: Clock, stop: StopSign) -> None:
        self._clock = clock
        self._stop = stop
        self.on = False
        self.since = 0.0

    def pause(self) -> None:
        """Send nothing new from now on."""
        if not self.on:
            self.on, self.since = True, self._clock.now()

    def release(self) -> float:
        """Go on; returns for how many seconds the run was paused."""
        self.on = False
        return self._clock.now() - self.since

    def checked(self, before: Callable[[Request], None]) -> Callable[[Request], None]:
        """Another's check and this one, to be asked right before the wire: what waited for its place when the run was paused is
        sent back.
        """

        def check(request: Request) -> None:
            before(request)
            if self.on:
                raise OnHold

        return check

    def wrap(self, inner: Complete) -> Complete:
        """`inner`, asked while the run is not paused. Raises Stopped where the run ends meanwhile."""

        async def complete(request: Request) -> Answer:
            while True:
                while self.on:
                    self._stop.check()
                    await self._clock.sleep(_LOOK_AGAIN_S)
                try:
                    return await inner(request)
                except OnHold:
                    continue

        return complete
