"""The error families of batchrun, and what each one means to a user.

`JobError`       nothing was sent; the message says what, where and the remedy        (exit code 2)
`EndpointError`  one attempt of one request failed, in a way that `kind` names      (a row's result, not an exit)
`RunError`       a run is not `ok` as a whole, said by `Outcome.raise_for_status`     (the run's exit code)
`BooksError`     the bill and the results don't agree                               (exit code 70)
`LedgerError`    what is on disk can't be trusted or can't be written               (exit code 3)
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from batchrun.money import Cost
from batchrun.records import Answer, Usage


class Kind(StrEnum):
    """What went wrong with an attempt (endpoint.md §4), or with a row before it was sent."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    MALFORMED = "malformed"
    EMPTY_OUTPUT = "empty_output"
    BAD_REQUEST = "bad_request"
    CONTENT_FILTER = "content_filter"
    NOT_FOUND = "not_found"
    CREDENTIALS = "credentials"
    CREDIT = "credit"
    BAD_ROW = "bad_row"


FATAL_KINDS = frozenset({Kind.NOT_FOUND, Kind.CREDENTIALS, Kind.CREDIT})
"""Faults that every row would meet: the job stops, its unfinished rows stay to be done."""

ROW_KINDS = frozenset({Kind.BAD_REQUEST, Kind.CONTENT_FILTER, Kind.BAD_ROW})
"""Faults of one row that asking again can't remedy."""


class BatchrunError(Exception):
    """Root of the errors that a user sees as one or two lines. `exit_code` is contract.md §3's."""

    exit_code = 1


class JobError(BatchrunError):
    """Bad usage, job, input, output or environment. Nothing was sent."""

    exit_code = 2


class RunError(BatchrunError):
    """A run that did not come to `ok` for every request; raised only where that is asked for."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LedgerError(BatchrunError):
    """The run directory can't be written or holds something that is damaged."""

    exit_code = 3


class BooksError(BatchrunError):
    """The bill is not the sum of the results: a fault of batchrun itself, found before anybody could believe the bill."""

    exit_code = 70


class EndpointError(Exception):
    """One attempt failed.

    `status` is the HTTP status (None where there was no answer), `retry_after_s` the wait that the endpoint stated, in
    seconds. `unconfirmed` says that the request was sent and its answer lost, so it may have been billed. `param` is
    the parameter that the endpoint names as the culprit; `should_retry` what it says itself about asking again, or None.
    `began_at` is when the attempt went on the wire, in the clock's monotonic seconds, where that is known. `endpoint` is
    the name of the endpoint that was asked, `usage` what it stated as used, though there is no answer, `model` who that was:
    None where unknown. `cost` is what the attempt is known to have cost, at the price of `price_source`. `remedy` is what a
    person can do about it, where the kind alone would lead them wrong. `at_once` says of a rate limit that it counts what is
    in flight: there is room again as soon as one of those has ended, whatever wait was stated; `quota` that it is of a
    whole "day" or "month". `of_model` says that its words speak of the model: it is not there, or not for this key.
    `answer` is what came, where it came whole and does not count as an answer.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        unconfirmed: bool = False,
        body: str | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
        usage: Usage | None = None,
        remedy: str | None = None,
        at_once: bool = False,
        quota: str | None = None,
        of_model: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.unconfirmed = unconfirmed
        self.body = body
        self.param = param
        self.should_retry = should_retry
        self.usage = usage
        self.remedy = remedy
        self.at_once = at_once
        self.quota = quota
        self.of_model = of_model
        self.began_at: float | None = None
        self.answer: Answer | None = None
        self.endpoint: str | None = None
        self.model: str | None = None
        self.cost: Cost | None = None
        self.price_source: str | None = None

    def __reduce__(self) -> tuple[Callable[..., "EndpointError"], tuple[Kind, str], dict[str, Any]]:
        """Its own way to be pickled: an exception is otherwise made again from `args`, which hold the message alone."""
        return EndpointError, (self.kind, self.message), self.__dict__
