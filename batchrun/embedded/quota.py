"""Requests and tokens per minute: two buckets, the headers that tell their state, and the 429 that follows from them.

The clock is handed in with every call. It must never sleep: who is refused is told when to come back.
"""

import math

from batchrun.embedded.wire import ApiError

Header = tuple[bytes, bytes]


class Bucket:
    """Holds one minute's worth, is full when it is first looked at, refills evenly."""

    def __init__(self, per_minute: int) -> None:
        self.limit = per_minute
        self.rate = per_minute / 60.0
        self._level = float(per_minute)
        self._then = math.inf

    def level(self, now: float) -> float:
        self._level = min(float(self.limit), self._level + max(0.0, now - self._then) * self.rate)
        self._then = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; 0 if it is."""
        return max(0.0, (amount - self.level(now)) / self.rate)

    def take(self, amount: float) -> None:
        self._level -= amount  # a settlement may give back (below zero), never beyond what the bucket holds
        self._level = min(self._level, float(self.limit))


class Quota:
    """Admission of requests under `requests_per_minute` and `tokens_per_minute`."""

    def __init__(self, requests_per_minute: int, tokens_per_minute: int) -> None:
        self._requests = Bucket(requests_per_minute) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute) if tokens_per_minute else None

    @property
    def limited(self) -> bool:
        return self._requests is not None or self._tokens is not None

    def admit(self, tokens: int, now: float) -> None:
        """Charge one request of `tokens`, or raise ApiError 429. A refused request costs nothing."""
        if self._tokens is not None and tokens > self._tokens.limit:
            raise self._refusal(
                f"Request too large: limit {self._tokens.limit} tokens per minute, requested {tokens}.", "tokens", now
            )
        for bucket, amount, kind in ((self._requests, 1, "requests"), (self._tokens, tokens, "tokens")):
            if bucket is not None and (wait := bucket.wait_s(amount, now)) > 0:
                error = self._refusal(
                    f"Rate limit reached on {kind} per minute: limit {bucket.limit}. "
                    f"Please try again in {_duration(wait)}.",
                    kind,
                    now,
                )
                error.headers += [
                    (b"retry-after", b"%d" % math.ceil(wait)),
                    (b"retry-after-ms", b"%d" % math.ceil(wait * 1000)),
                ]
                raise error
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def settle(self, charged: int, used: int) -> None:
        if self._tokens is not None:
            self._tokens.take(used - charged)

    def headers(self, now: float) -> list[Header]:
        """`x-ratelimit-limit|remaining|reset-requests|tokens`; reset is the time until the bucket is full."""
        found: list[Header] = []
        for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                found += [
                    (f"x-ratelimit-limit-{name}".encode(), str(bucket.limit).encode()),
                    (f"x-ratelimit-remaining-{name}".encode(), str(max(0, int(bucket.level(now)))).encode()),
                    (f"x-ratelimit-reset-{name}".encode(), _duration(bucket.wait_s(bucket.limit, now)).encode()),
                ]
        return found

    def _refusal(self, message: str, kind: str, now: float) -> ApiError:
        error = ApiError(429, message, kind=kind, code="rate_limit_exceeded")
        error.headers = self.headers(now)
        return error


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3g}s" if minutes else f"{rest:.4g}s"
