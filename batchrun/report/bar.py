"""The bar of a run, in a terminal or a notebook. The only owner of tqdm."""

import importlib.util
import os
from typing import Any, TextIO

from tqdm import tqdm

from batchrun.report.standing import Standing


def _paced(kind: Any) -> Any:
    """A class of tqdm's that shows the run's pace, which rows that were done before are no part of."""

    class Paced(kind):  # type: ignore[misc]
        standing: Standing | None = None

        @property
        def format_dict(self) -> dict[str, Any]:
            rate = None if self.standing is None else self.standing.rate_per_s
            return {**super().format_dict, "rate": rate or 0.0}

    return Paced


def bar(mode: str, total: int, out: TextIO) -> Any:
    """A bar for a terminal, or for a notebook where its widgets are installed."""
    if mode == "notebook" and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm_notebook

        return _paced(tqdm_notebook)(total=total, unit="req", mininterval=0.2)
    return _paced(tqdm)(total=total, unit="req", file=out, mininterval=0.2, **_size(out))


def _size(out: TextIO) -> dict[str, Any]:
    """The bar follows the terminal's size. In one that doesn't know its own (0 × 0, as CI makes them) tqdm would draw
    nothing.
    """
    try:
        size = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):  # no terminal after all
        return {"dynamic_ncols": True}
    if size.lines and size.columns:
        return {"dynamic_ncols": True}
    return {"ncols": size.columns or 80, "nrows": size.lines or 24}
