"""What attempts have surely cost, and the most that those with a lost answer may have cost on top.

Each attempt's money is counted in the one file that recorded it: an open journal counts its own attempts, a sealed part
keeps its journal's account in its footer. What was carried over or drawn from another file is counted there, and no such
file is ever deleted. spending.py adds them up.
"""

import msgspec

from batchrun.ledger.replay import Replay


class Account(msgspec.Struct, frozen=True):
    """`spent` is known to be billed, `risk` the most that attempts whose answer was lost may cost, both in pico-dollars.

    `unpriced` are answers with tokens and no known price, `unbounded` lost ones of which no most is known.
    """

    spent: int = 0
    risk: int = 0
    unpriced: int = 0
    unbounded: int = 0

    def plus(self, other: "Account") -> "Account":
        return Account(
            self.spent + other.spent,
            self.risk + other.risk,
            self.unpriced + other.unpriced,
            self.unbounded + other.unbounded,
        )


def account_in(found: Replay) -> Account:
    """The account of what a journal itself has recorded. Attempts under way when its writer died may have cost something."""
    total = Account()
    for key, tally in found.tallies.items():
        if tally.only_carried:
            continue
        result = found.results.get(key)
        # other results were drawn from elsewhere, failed, or had been written down as a paid answer
        answered = result is not None and result.status == "ok" and tally.under_way > 0
        cost = tally.cost.total if tally.cost is not None else 0
        billed = found.paid.get(key, [])
        under_way = tally.under_way
        if result is not None and answered:
            cost = cost if result.cost is None else result.cost
            billed = [*billed, result]
            under_way -= 1
        total = total.plus(
            Account(
                spent=cost - tally.carried_cost,
                risk=tally.risk + under_way * (tally.ceiling or 0),
                unpriced=sum(one.cost is None and bool(one.total_tokens) for one in billed),
                unbounded=tally.unbounded + under_way * (tally.ceiling is None),
            )
        )
    return total
