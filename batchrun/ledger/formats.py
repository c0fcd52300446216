"""The number of a run directory's format: in run.json, in the inventory and in a journal's first line.

1: no number is written. 2: with the number, kinds of lost attempts, and answers that were paid for before they are
results. An older directory is gone on with. It grows when an older batchrun would misread what a newer one writes.
"""

import msgspec

FORMAT = 2


class Numbered(msgspec.Struct):
    """What can be read of any file that has the number, whatever else is in it."""

    format: int = 1


def refusal(place: object, found: int) -> str | None:
    """Why a file with this number can't be read, in one line; None where it can."""
    if found <= FORMAT:
        return None
    return (
        f"{place}: a newer batchrun wrote this run directory (format {found}; this one knows up to {FORMAT}): update "
        "batchrun, or give another place with -o"
    )
