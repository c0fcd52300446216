"""The requests that are loaded and not yet asked, in input order; and the far ones that are asked out of turn.

Made before anything that takes from it. It holds no more than the shards that are open.
"""

import collections

import anyio

from batchrun.records import Request

FEW = 20
"""So few requests may be refused for good like a wrong key; with more left it is the key."""
_WITNESSES = 1200
"""Once rows that stand together failed while a far one was answered, so many more far ones are asked beside them, one
every now and then: their answers tell such rows from an outage.
"""


class Backlog:
    """`complete` says that nothing more will be added, `changed` is set when something has changed, `is_short` that one
    shard more than is needed is wanted. `witnesses` are still to be asked out of turn, one now and then.

    `others_ok` says that an earlier call had answers, `gives_up` that rows which nobody answers, with nothing left to tell
    why, shall fail.
    """

    def __init__(self, *, others_ok: bool = False, gives_up: bool = False) -> None:
        self.complete = False
        self.changed = anyio.Event()
        self.others_ok = others_ok
        self.gives_up = gives_up
        self.is_short = False
        self.witnesses = 0
        self._asked_before = False
        self._ready: collections.deque[Request] = collections.deque()
        self._out_of_turn: collections.deque[Request] = collections.deque()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._out_of_turn)

    @property
    def has_next(self) -> bool:
        """Whether `pop` has something to give."""
        return bool(self._ready)

    def extend(self, requests: list[Request]) -> None:
        self._ready.extend(requests)
        self.tell()

    def end(self) -> None:
        """Nothing more will be added."""
        self.complete = True
        self.tell()

    def pop(self) -> Request:
        """The next request to ask. Raises IndexError where there is none."""
        self._taken += 1
        return self._ready.popleft()

    def pop_out_of_turn(self) -> Request | None:
        """A far request that is wanted beside those in progress."""
        return self._out_of_turn.popleft() if self._out_of_turn else None

    def scout(
        self, unlike: frozenset[tuple[str, str]] = frozenset(), *, halfway: bool = False, only_unlike: bool = False
    ) -> Request | None:
        """Have the request that stands farthest ahead asked beside the others; None where none is left. Rows that nobody
        would answer stand together. One whose path and model are not in `unlike` goes before, with `only_unlike` no other is
        taken. `halfway` takes one from the middle: what stands at the end may be of one kind with what stands at the beginning.
        """
        if not self._ready:
            return None
        place = len(self._ready) - 1
        if halfway:
            place //= 2
        if unlike:
            ready = self._ready
            others = (at for at in range(place, -1, -1) if (ready[at].path, ready[at].model) not in unlike)
            if (other := next(others, None)) is None and only_unlike:
                return None
            place = place if other is None else other
        self._taken += 1
        self._out_of_turn.append(self._ready[place])
        del self._ready[place]
        self.is_short = True  # what is loaded may all be of one kind: the next one shall stand farther ahead
        self.tell()
        return self._out_of_turn[-1]

    def mix(self) -> None:
        """From now on have requests from far ahead asked beside the others."""
        self.witnesses = _WITNESSES
        self.tell()

    def seen_before(self) -> None:
        """One of the requests was asked in an earlier call, which got no result for it."""
        self._asked_before = True

    @property
    def is_last(self) -> bool:
        """Whether every request that is left is in progress."""
        return self.complete and not self._ready

    @property
    def is_last_again(self) -> bool:
        """Whether this call has few requests to ask, all in progress, and an earlier one, which had answers to others, asked
        some of them and was stopped.
        """
        return self.is_last and self._taken <= FEW and self._asked_before and self.others_ok

    def tell(self) -> None:
        """Wake those who wait for a change."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
