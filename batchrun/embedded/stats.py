"""What the endpoint has seen: counters for /stats, and the optional ledger file that a test can trust.

Of bodies only the first 8 bytes of their SHA-256 are kept. It must never keep a body, and never buffer a ledger
line: the file has to be true when the process is killed.
"""

import os
import time
from hashlib import sha256
from typing import Any


class Stats:
    """Counters of one endpoint. received = answered + aborted + in_flight; answered = ok + errors."""

    def __init__(self, ledger: str | None = None) -> None:
        self.received = self.ok = self.errors = self.aborted = 0
        self.max_in_flight = self.repeated = self.prompt_tokens = self.completion_tokens = 0
        self._bodies: dict[int, bool] = {}  # 8-byte hash of a body -> whether it was answered ok
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if ledger is not None else None

    @property
    def in_flight(self) -> int:
        return self.received - self.ok - self.errors - self.aborted

    def receive(self, body: bytes) -> tuple[int, int]:
        """Count a request; its number (from 1) and its hash."""
        self.received += 1
        digest = int.from_bytes(sha256(body).digest()[:8], "big")
        self._bodies.setdefault(digest, False)
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if self._ledger is not None:
            self._write("received", self.received, digest)
        return self.received, digest

    def answer(self, number: int, digest: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Count an answer that was sent whole."""
        self.ok += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        if self._bodies[digest]:
            self.repeated += 1
        self._bodies[digest] = True
        if self._ledger is not None:
            self._write("answered", number, digest)

    def _write(self, event: str, number: int, digest: int) -> None:
        assert self._ledger is not None
        line = f'{{"event":"{event}","n":{number},"sha":"{digest:016x}","t":{time.time():.6f}}}\n'
        os.write(self._ledger, line.encode())

    def shown(self, open_connections: int | None) -> dict[str, Any]:
        return {
            "received": self.received,
            "answered": self.ok + self.errors,
            "ok": self.ok,
            "errors": self.errors,
            "aborted": self.aborted,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "distinct": len(self._bodies),
            "repeated": self.repeated,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "open_connections": open_connections,
        }

    def close(self) -> None:
        if self._ledger is not None:
            os.close(self._ledger)
            self._ledger = None
