"""Open files: every request in flight needs one, and a shell's usual limit of 1,024, or 256, is soon reached.

At the limit an answer that was paid for can't be written any more; so there is room before anything is sent, or less is.
"""

import contextlib
import resource
from pathlib import Path

RESERVE = 48
"""What else a run opens: journals, parts, its lock, its input, the loop's own."""


def room_for(connections: int) -> int:
    """For how many of so many connections there is room, at least one. The soft limit is raised as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    base = _open_now() + RESERVE
    needed = base + connections + connections // 10  # a closed one takes a moment to be gone
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return connections if soft >= needed else max(1, (soft - base) * 10 // 11)


def _open_now() -> int:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        with contextlib.suppress(OSError):
            return sum(1 for _ in folder.iterdir())
    return 16
