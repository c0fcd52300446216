"""One turn at a time, in the order of asking; somebody may be let in ahead. A lock whose holder can be chosen."""

from collections.abc import Callable

import anyio

from batchrun.records import Request


class Place:
    """One who waits for the turn. `called` is set when it has it, or when nobody needs one any more."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.called = anyio.Event()
        self.has_turn = False


class Turns:
    """`choose` picks who is next among those who wait, None to let all wait."""

    def __init__(self, choose: Callable[[list[Place]], Place | None]) -> None:
        self._choose = choose
        self._line: list[Place] = []
        self._holder: Place | None = None

    @property
    def line(self) -> list[Request]:
        """Those who wait, in the order of their coming."""
        return [place.request for place in self._line]

    def has(self, request: Request) -> bool:
        """Whether it is this request's turn."""
        return self._holder is not None and self._holder.request is request

    async def wait(self, request: Request) -> bool:
        """Until it is this request's turn (True, to be given back with `done`), or until all are sent on (False)."""
        place = Place(request)
        self._line.append(place)
        self.call()
        try:
            await place.called.wait()
        except BaseException:
            if place in self._line:
                self._line.remove(place)
            elif place.has_turn:
                self.done()
            raise
        return place.has_turn

    def call(self) -> None:
        """Give the turn to the next one, where nobody has it."""
        if self._holder is None and self._line and (place := self._choose(self._line)) is not None:
            self._line.remove(place)
            self._holder = place
            place.has_turn = True
            place.called.set()

    def done(self) -> None:
        """The turn is over."""
        self._holder = None
        self.call()

    def send_all_on(self) -> None:
        """Nobody needs a turn any more."""
        line, self._line = self._line, []
        for place in line:
            place.called.set()
