"""The times in which the endpoint was well, as the attempts that it answered tell them."""

from collections.abc import Callable

import msgspec

LOOSE_S = 10.0
"""Between two attempts that began so close together, and were both answered, the endpoint may have been out for some seconds:
then one fault proves little, several in different places do.
"""
IN_A_SPELL = -1.0
_TIGHT_S = 0.5
"""Between two that began so close together the endpoint was well."""
_KEPT = 512


class Spell(msgspec.Struct, gc=False):
    """A time in which the endpoint was well: `since` and `until` are when the first and the last attempt began that it
    answered, `answered` is when the last of their answers came. In the clock's seconds.
    """

    since: float
    until: float
    answered: float


class Spells:
    """The last few hundred of them, in order."""

    def __init__(self) -> None:
        self._spells: list[Spell] = []

    def __bool__(self) -> bool:
        return bool(self._spells)

    @property
    def last_since(self) -> float:
        """When the last one began; there has to be one."""
        return self._spells[-1].since

    def add(self, began: float, now: float) -> None:
        """An attempt that began then is answered now."""
        spells = self._spells
        if not spells or began > spells[-1].until + _TIGHT_S:
            spells.append(Spell(began, began, now))
            del spells[:-_KEPT]
            return
        last = spells[-1]
        if began >= last.since:
            last.until = max(last.until, began)
            last.answered = now
            return
        spells.append(Spell(began, began, now))
        spells.sort(key=lambda spell: spell.since)
        joined: list[Spell] = []
        for spell in spells:
            if joined and spell.since - joined[-1].until <= _TIGHT_S:
                before = joined[-1]
                before.until = max(before.until, spell.until)
                before.answered = max(before.answered, spell.answered)
            else:
                joined.append(spell)
        self._spells = joined

    def has_between(self, first: float, last: float) -> bool:
        """Whether an attempt that was answered began between two moments."""
        return any(first < spell.until and spell.since < last for spell in self._spells)

    def proof(self, began: float, ended: float, is_close: Callable[[Spell, Spell], bool]) -> float | None:
        """Where the endpoint was well from `began` to `ended`: `IN_A_SPELL`, or when the spell behind a gap began that is
        small in the eyes of `is_close`; None where that is not known.
        """
        after: Spell | None = None
        for spell in reversed(self._spells):
            if spell.since <= began:
                if began <= spell.until and ended <= spell.answered:
                    return IN_A_SPELL
                if after is not None and is_close(spell, after) and ended <= after.answered:
                    return after.since
                return None
            after = spell
        return None
