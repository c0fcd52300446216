"""The one sign that ends a run early. Whoever may end it asks for a stop here: gate, retry, budget, ledger, source, signals.

The first one wins: what comes later is a consequence of it, or no news. Whoever starts something new looks here first.
"""

import anyio
import msgspec

UNANSWERED = "unanswered"
"""The kind of a stop at rows that nobody answered, with nothing else left to ask."""

ABSENT = "absent"
"""The kind of a stop at the end, of a run with requests left to models that the endpoint does not have."""

STEERED = "steered"
"""The kind of a stop that a person asked for from elsewhere (`batchrun stop`)."""


class Stop(msgspec.Struct, frozen=True):
    """Why a run ends early. `exit_code` is contract.md §3's, `message` says what to do about it.

    `kind` is a kind of fault (errors.Kind), or one of: `unanswered`, `absent`, `disk`, `input`, `signal`, `steered`.
    """

    kind: str
    message: str
    exit_code: int = 3


class Stopped(Exception):  # noqa: N818 - not an error of the request: it stays to be done
    """The run is ending; the request was not answered and stays to be done."""


class StopSign:
    """`stop` is why the run ends, None while it goes on. `asked` and `at_once` are set when that changes."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.asked = anyio.Event()
        self.at_once = anyio.Event()

    def ask(self, stop: Stop) -> None:
        """Start nothing new; what is in flight may finish within its grace."""
        if self.stop is None:
            self.stop = stop
            self.asked.set()

    def ask_at_once(self, stop: Stop) -> None:
        """End now; what is in flight is lost, and asked again another time."""
        self.ask(stop)
        self.at_once.set()

    def check(self) -> None:
        """Raise Stopped where the run is ending."""
        if self.stop is not None:
            raise Stopped
