"""What the footer of a file of results keeps beside its columns: of each row group its tally and its bills (bills.py).

A part has one row group; a merged file has its parts', one behind the other, so that it can be split again.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from batchrun.ledger.account import Account
from batchrun.ledger.bills import Share, pack, unpack
from batchrun.ledger.sealed import NAMES
from batchrun.ledger.tally import Tally
from batchrun.records import Result

_Kept = TypeVar("_Kept")
_TALLY = b"batchrun.tally"
_BILLS = b"batchrun.bills"
_GROUPS = b"batchrun.groups"


class Group(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of one row group, as it is packed; empty where an older version wrote the file."""

    tally: str = ""
    bills: str = ""

    def shares(self, rows: int) -> list[Share]:
        """What is kept of the prices of so many results. Raises ValueError."""
        if not self.bills:
            return [(None, None)] * rows
        shares = unpack(self.bills.encode())
        if len(shares) != rows:
            raise ValueError(f"what is kept of its prices is of {len(shares)} rows, and there are {rows}")
        return shares

    def metadata(self) -> dict[bytes, bytes]:
        """The footer of a part that has just this row group."""
        return {_TALLY: self.tally.encode(), _BILLS: self.bills.encode()}


def group_of(results: Sequence[Result], account: Account | None = None) -> Group:
    """What is to be kept of these results."""
    tally = Tally(account=account)
    for result in results:
        tally.add(result)
    return Group(msgspec.json.encode(tally).decode(), pack(results).decode())


def metadata_of(groups: Sequence[Group]) -> dict[bytes, bytes]:
    """The footer of a merged file."""
    return {_GROUPS: msgspec.json.encode(groups)}


def groups_in(metadata: Mapping[bytes, bytes] | None, count: int) -> list[Group]:
    """What a footer keeps of its row groups, `count` of them. Raises ValueError."""
    kept = metadata or {}
    if _GROUPS in kept:
        groups = _decoded(kept[_GROUPS], list[Group])
    elif _TALLY in kept and _BILLS in kept:
        groups = [Group(kept[_TALLY].decode(), kept[_BILLS].decode())]
    elif count and NAMES in kept:
        raise ValueError("its footer has lost what it kept of its row groups")
    else:
        groups = [Group(kept.get(_TALLY, b"").decode())] * count
    if kept.get(_BILLS) == b"":
        raise ValueError("its footer has lost what it kept of its prices")
    if len(groups) != count:
        raise ValueError(f"its footer keeps {len(groups)} row groups, and there are {count}")
    return groups


def tally_of(groups: Sequence[Group]) -> Tally | None:
    """All that was counted; None where a group has not been. Raises ValueError."""
    total = Tally()
    for group in groups:
        if not group.tally:
            return None
        total.take(_decoded(group.tally, Tally))
    return total


def account_of(groups: Sequence[Group]) -> Account | None:
    """The accounts of all together; None where one has none. Raises ValueError."""
    total = Account()
    for group in groups:
        account = _decoded(group.tally, Tally).account if group.tally else None
        if account is None:
            return None
        total = total.plus(account)
    return total


def _decoded(text: bytes | str, kind: type[_Kept]) -> _Kept:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"what its footer keeps is damaged: {error}") from error
