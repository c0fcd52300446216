"""What happens in a run, as frozen records that any listener may hear: a progress bar, counters, a log, a remote driver.

A listener decides nothing and never raises. Durations are in seconds.
"""

from collections.abc import Callable

import msgspec

from batchrun.errors import EndpointError
from batchrun.records import Result


class Began(msgspec.Struct, frozen=True):
    """A call begins to ask: of `requests` in the whole run. `resumed` says that the run is older than this call, `broke_off`
    that the call before died, or was killed, without a word.
    """

    requests: int
    resumed: bool = False
    broke_off: bool = False


class Done(msgspec.Struct, frozen=True, gc=False):
    """One request has its result in this call; one of a row that can't be asked has it without being `asked`."""

    result: Result
    asked: bool = True


class Kept(msgspec.Struct, frozen=True):
    """So many requests had their result before this call, `failed` of them a failure. `tokens` are those of all their
    answers, `cost` what they are known to have cost, in pico-dollars, `unpriced` of them without a known price.
    """

    requests: int
    failed: int = 0
    tokens: int = 0
    cost: int = 0
    unpriced: int = 0


class Retried(msgspec.Struct, frozen=True):
    """One attempt failed and is made again."""

    error: EndpointError


class Paused(msgspec.Struct, frozen=True):
    """The endpoint answers nobody: one probe follows, or more for `patience_s`."""

    error: EndpointError
    patience_s: float


class Resumed(msgspec.Struct, frozen=True):
    """Requests are sent again, `after_s` later: the endpoint answers, or few rows are asked to their end all the same."""

    after_s: float
    answered: bool = True


class Waiting(msgspec.Struct, frozen=True):
    """The endpoint asks everybody to wait for so long, None where it doesn't say. With `probed` one request is sent now and
    then meanwhile, and `Resumed` tells when that is over.
    """

    seconds: float | None
    error: EndpointError
    probed: bool = False


class Learnt(msgspec.Struct, frozen=True):
    """The endpoint states limits for a model, in units a minute, that are kept from now on."""

    model: str
    limits: dict[str, float]


class Dropped(msgspec.Struct, frozen=True):
    """What the endpoint states of these units for a model contradicts what it does: it is kept no longer."""

    model: str
    units: list[str]


class Narrowed(msgspec.Struct, frozen=True):
    """The endpoint takes about so many at once, and refuses more, or breaks off what it was answering (`broken`)."""

    places: int
    broken: bool = False


class Absent(msgspec.Struct, frozen=True):
    """The endpoint does not have a model, or not for this key, and answers for others: requests to it are left."""

    model: str
    error: EndpointError


class Held(msgspec.Struct, frozen=True):
    """A person has paused the run (`batchrun pause`): nothing new is sent."""


class Released(msgspec.Struct, frozen=True):
    """A person lets the run go on, `after_s` later (`batchrun resume`)."""

    after_s: float


class Steered(msgspec.Struct, frozen=True):
    """A person has changed limits while the run goes on (`batchrun set`): the new values, by their keys in the job."""

    limits: dict[str, float]


class Draining(msgspec.Struct, frozen=True):
    """The run was told to stop: requests in flight are waited for, for `grace_s` at most."""

    in_flight: int
    grace_s: float


class Ended(msgspec.Struct, frozen=True):
    """A call is over. `message` says why it stopped, None where the run is complete; `ok` and `failed` are the run's, as far as
    they could be counted.
    """

    ok: int
    failed: int
    message: str | None = None
    exit_code: int = 0


Event = (
    Began
    | Done
    | Kept
    | Retried
    | Paused
    | Resumed
    | Waiting
    | Learnt
    | Dropped
    | Narrowed
    | Absent
    | Held
    | Released
    | Steered
    | Draining
    | Ended
)
Hear = Callable[[Event], None]


def nobody(_event: Event) -> None:
    """Hears nothing."""
