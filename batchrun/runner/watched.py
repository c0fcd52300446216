"""How a call is watched from elsewhere: Prometheus and OpenTelemetry, where its job asks for them."""

import contextlib
from collections.abc import Callable, Iterator

from batchrun.events import Hear
from batchrun.report.metrics import Numbers, served
from batchrun.report.traces import traced
from batchrun.sections import Metrics


class Watch:
    """`listeners` hear the events of a call; `see` is told how the attempts on the wire are counted."""

    def __init__(self, listeners: list[Hear], numbers: Numbers | None = None) -> None:
        self.listeners = listeners
        self._numbers = numbers

    def see(self, in_flight: Callable[[], int]) -> None:
        if self._numbers is not None:
            self._numbers.in_flight = in_flight


@contextlib.contextmanager
def watching(settings: Metrics, run: str, endpoint: str, note: Callable[[str], None]) -> Iterator[Watch]:
    """What the job asks for, for as long as this lasts. Raises JobError where it can't be had."""
    with contextlib.ExitStack() as stack:
        listeners: list[Hear] = []
        numbers: Numbers | None = None
        if settings.listen is not None:
            numbers = Numbers()
            stack.enter_context(served(settings.listen, numbers))
            listeners.append(numbers.hear)
        if settings.traces is not None:
            listeners.append(stack.enter_context(traced(settings.traces, settings.share, run, endpoint, note)))
        yield Watch(listeners, numbers)
