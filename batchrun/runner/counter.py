"""What a run counts while it goes on, and lets others read of it. Passes every event on; decides nothing."""

from collections.abc import Callable

import anyio

from batchrun.events import Event, Hear
from batchrun.report.standing import Live, Standing

_TELL_EVERY_S = 1.0


class Counter:
    """`standing` has the numbers. `say` keeps a text where others can read it (`standing.read_live`)."""

    def __init__(self, say: Callable[[str], None], listeners: list[Hear], standing: Standing) -> None:
        self.standing = standing
        self._say = say
        self._listeners = listeners
        self._told = Live()

    def hear(self, event: Event) -> None:
        """Count one event and pass it on. What the run waits for is told at once."""
        self.standing.hear(event)
        if self.standing.wait is not self._told.wait:
            self._tell()
        for hear in self._listeners:
            hear(event)

    async def keep_telling(self) -> None:
        """Let others read the pace, every second, until cancelled."""
        while True:
            await anyio.sleep(_TELL_EVERY_S)
            self._tell()

    def _tell(self) -> None:
        live = self.standing.live()
        if live != self._told:
            self._told = live
            self._say(live.encoded())
