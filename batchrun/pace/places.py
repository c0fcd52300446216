"""Places for attempts: so many at once and no more, in the order of asking. How many there are may change at any time."""

import asyncio
import collections

Called = asyncio.Future[None]


class Places:
    """A semaphore whose `size` may be changed: where it shrinks, who has a place keeps it until it leaves."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._line: collections.deque[Called] = collections.deque()

    def enter_now(self) -> bool:
        """Take a place where one is free and nobody waits for it."""
        if self._line or self._taken >= self.size:
            return False
        self._taken += 1
        return True

    def line_up(self) -> Called:
        """Wait in the line: it is called with the place. Who waits no longer has to `give_up`."""
        called = asyncio.get_running_loop().create_future()
        self._line.append(called)
        return called

    def give_up(self, called: Called) -> None:
        """Leave the line, or the place that was given meanwhile."""
        if called in self._line:
            self._line.remove(called)
        elif not called.cancelled():
            self.leave()

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._let_in()

    def resize(self, size: int) -> None:
        """From now on there are so many."""
        self.size = size
        self._let_in()

    def _let_in(self) -> None:
        while self._line and self._taken < self.size:
            called = self._line.popleft()
            if not called.done():  # not one whose task is being cancelled
                self._taken += 1
                called.set_result(None)
