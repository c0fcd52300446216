"""Ask again, with full jitter, for as long as it makes sense: the only owner of tenacity (endpoint.md §4–§5).

The first attempt is made directly; tenacity's machinery is entered only when it failed, so that the common case pays
nothing for it.
"""

import random
from collections.abc import Callable

import tenacity

from batchrun.clock import Clock
from batchrun.errors import FATAL_KINDS, ROW_KINDS, EndpointError, Kind
from batchrun.job import Retry
from batchrun.records import Answer, Complete, Request

_FIRST_WAIT_S = 0.5
_MALFORMED_ATTEMPTS = 3
_FINAL = ROW_KINDS | FATAL_KINDS
_SPREAD = 0.1


def retrying(inner: Complete, settings: Retry, clock: Clock, on_retry: Callable[[EndpointError], None]) -> Complete:
    """`inner`, asked again after faults that may pass.

    A `rate_limited` attempt doesn't count against `max_attempts`: the endpoint said when to come back.
    """

    async def complete(request: Request) -> Answer:
        try:
            return await inner(request)
        except EndpointError as error:
            if error.kind in _FINAL:
                raise
            return await _Again(inner, settings, clock, on_retry, error)(request)

    return complete


class _Again:
    """The attempts of one request after its first one failed with `first`."""

    def __init__(
        self,
        inner: Complete,
        settings: Retry,
        clock: Clock,
        on_retry: Callable[[EndpointError], None],
        first: EndpointError,
    ) -> None:
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self._on_retry = on_retry
        self._first: EndpointError | None = first
        self._counted = 0
        self._malformed = 0

    async def __call__(self, request: Request) -> Answer:
        loop = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            stop=self._enough,
            wait=self._wait_s,
            retry=tenacity.retry_if_exception(_may_pass),
            before_sleep=lambda state: self._on_retry(_error(state)),
            reraise=True,
        )
        answer: Answer = await loop(self._attempt, request)
        return answer

    async def _attempt(self, request: Request) -> Answer:
        try:
            if self._first is not None:
                first, self._first = self._first, None
                raise first
            return await self._inner(request)
        except EndpointError as error:
            self._counted += error.kind is not Kind.RATE_LIMITED
            self._malformed += error.kind is Kind.MALFORMED
            raise

    def _enough(self, _state: tenacity.RetryCallState) -> bool:
        return self._counted >= self._settings.max_attempts or self._malformed >= _MALFORMED_ATTEMPTS

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """U(0, min(max_wait, 0.5·2ⁿ)) seconds; a stated wait is a floor, with a little jitter on top."""
        longest = min(self._settings.max_wait_s, _FIRST_WAIT_S * 2.0 ** min(state.attempt_number, 30))
        stated = _error(state).retry_after_s
        if stated is not None:
            return stated + random.uniform(0, min(longest, 1.0 + _SPREAD * stated))  # noqa: S311
        return random.uniform(0, longest)  # noqa: S311


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, EndpointError) and error.kind not in _FINAL


def _error(state: tenacity.RetryCallState) -> EndpointError:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, EndpointError)
    return error
