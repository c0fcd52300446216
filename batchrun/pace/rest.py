"""What the gate asks of whoever hands out the rows: what is left, and rows from far ahead."""

from typing import Protocol

from batchrun.records import Request

Groups = frozenset[tuple[str, str]]
"""Paths, each with a model."""


class Rest(Protocol):
    """What is left to ask. `gives_up` says that rows which nobody answers, with nothing left to tell why, shall
    fail, `others_ok` that an earlier call had answers.
    """

    gives_up: bool
    others_ok: bool

    @property
    def is_last(self) -> bool:
        """Whether every request that is left is in progress."""

    @property
    def is_last_again(self) -> bool:
        """Whether they are few, and an earlier call was stopped while it asked some of them."""

    def scout(
        self, unlike: Groups = frozenset(), *, halfway: bool = False, only_unlike: bool = False
    ) -> Request | None:
        """Have a request asked that stands far ahead, beside the others, of none of the paths and models in `unlike` where
        there is one, and with `only_unlike` only there; None where none is left.
        """

    def mix(self) -> None:
        """From now on have requests from far ahead asked beside the others."""
