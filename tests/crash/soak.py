"""The long tests' budget: what they try is drawn by a seed, as much of it as the time allows, and they say how far they are."""

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import pytest

SAY_S = 20.0
T = TypeVar("T")


def soak_of(request: pytest.FixtureRequest, stream: int) -> "Soak":
    """All long tests that keep to a share have the same; those that run beside each other have the time together."""
    config = request.config
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in request.session.items if item.get_closest_marker("soak")]
    count = len([item for item in long if "soak" in getattr(item, "fixturenames", ())])
    share_s = config.getoption("soak_minutes") * 60.0 * workers / count
    return Soak(request.node.name, config.getoption("soak_seed"), share_s, stream)


class Soak:
    """One long test's share of the time, in seconds, and what draws its trials. `stream` is a descriptor, to say how far it
    is. Safe from several threads.
    """

    def __init__(self, name: str, seed: int, share_s: float, stream: int) -> None:
        self.chance = random.Random(f"{seed} {name}")
        self._share_s = share_s
        self._stream = stream
        self._name = name
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()
        self._done = 0
        self._over = False

    def goes_on(self, of: int | None = None) -> bool:
        """Whether there is time for one more trial, of so many; counts it."""
        with self._lock:
            now = time.monotonic()
            begins = not self._over and now - self._began < self._share_s
            if begins:
                self._done += 1
            if now - self._said > SAY_S or (not begins and not self._over):
                self._say(now, of)
            self._over = not begins
            return begins

    def _say(self, now: float, of: int | None) -> None:
        self._said = now
        many = "" if of is None else f" of {of}"
        text = f"soak: {self._name}: trial {self._done}{many}, {now - self._began:.0f} of {self._share_s:.0f} s"
        os.write(self._stream, f"\n{text}\n".encode())

    def drawn(self, things: Sequence[T]) -> Iterator[T]:
        """As many as the time allows, in an order that the seed has drawn."""
        for one in self.chance.sample(things, len(things)):
            if not self.goes_on(len(things)):
                return
            yield one
