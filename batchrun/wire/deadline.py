"""The deadlines of one attempt, moved as its answer comes (endpoint.md §5): one cancel scope, whose end is set again.

`first_token` counts until the first content, `between_tokens` from content to content, `total` is absolute; an answer that
is not streamed has only `total`. Behind a whole answer, what else may come is waited for a moment only.
"""

import asyncio
from collections.abc import Callable

import anyio

from batchrun.clock import Clock
from batchrun.sections import Timeouts

END_LINGER_S = 5.0
"""How long usage and `[DONE]` are waited for once every choice has ended: some endpoints keep the connection open."""
DONE_LINGER_S = 0.1
"""How long the end of a body is waited for behind `[DONE]`, so that its connection can be used again."""
_SLACK = 1 / 100
"""A timer for every token would cost more than the token: it is set again after each hundredth of the way."""


class Deadline:
    """What bounds one attempt that began at `start` (the clock's monotonic seconds).

    The attempt runs within `scope`, and says what came; the times of its answer are read off at its end.
    """

    def __init__(self, timeouts: Timeouts, clock: Clock, start: float, *, stream: bool) -> None:
        self.first_token_s: float | None = None
        self._timeouts = timeouts
        self._now = clock.now
        self._start = start
        self._stream = stream
        self._end = start + timeouts.total
        self._between = timeouts.between_tokens if stream else timeouts.total
        self._slack = self._between * _SLACK
        self._armed = float("-inf")
        self._ended: float | None = None
        self._done: float | None = None
        self._quiet: asyncio.TimerHandle | None = None
        first = timeouts.first_token if stream else timeouts.total
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + min(first, timeouts.total))

    def content(self) -> None:
        """Content came: the next may take `between_tokens`."""
        moment = self._now()
        self._ended = None
        if moment - self._armed > self._slack:
            self._armed = moment
            if self.first_token_s is None:
                self.first_token_s = moment - self._start
            self.scope.deadline = anyio.current_time() + min(self._between + self._slack, self._end - moment)

    def ended(self) -> None:
        """Every choice has its end: usage and `[DONE]` may follow."""
        self._ended = self._now()
        self._at_most(END_LINGER_S)

    @property
    def is_ending(self) -> bool:
        """Whether the end of every choice has come, and no content since."""
        return self._ended is not None

    def done(self) -> None:
        """Nothing more is meant to come."""
        if self._done is None:
            self._done = self._now()
            self._at_most(DONE_LINGER_S)

    def look_when_quiet(self, is_whole: Callable[[], bool]) -> None:
        """Where nothing more comes for a moment, have a look whether the answer is whole without its end."""
        self.close()
        self._quiet = asyncio.get_running_loop().call_later(DONE_LINGER_S, self._look, is_whole, self._now())

    def close(self) -> None:
        """The attempt is over: nothing is looked at any more."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def _look(self, is_whole: Callable[[], bool], since: float) -> None:
        if is_whole():
            self._done = since
            self.scope.cancel()

    def latency_s(self) -> float:
        """Seconds until the answer was whole, without the wait for what might have stood behind it."""
        end = self._ended if self._done is None else self._done
        return (self._now() if end is None else end) - self._start

    def message(self) -> str:
        """Which of the deadlines it was that passed, and that it can be raised."""
        timeouts = self._timeouts
        if self._now() - self._start >= timeouts.total * 0.999:
            return f"no whole answer in {timeouts.total:g} s: raise [timeouts] total (--timeout)"
        if self.first_token_s is None and self._stream:
            return f"no content in {timeouts.first_token:g} s: raise [timeouts] first_token"
        return f"no further content in {timeouts.between_tokens:g} s: raise [timeouts] between_tokens"

    def _at_most(self, seconds: float) -> None:
        self.scope.deadline = min(self.scope.deadline, anyio.current_time() + seconds)
