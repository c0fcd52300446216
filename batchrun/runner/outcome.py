"""What a call of a run came to, as its caller reads it. Reads the run directory as the call left it, and never writes."""

import html
from collections.abc import Callable, Iterator
from typing import Any, Self

import msgspec

from batchrun.errors import JobError, RunError
from batchrun.ledger import parts
from batchrun.ledger.held import Held
from batchrun.money import pico, shown
from batchrun.records import Result
from batchrun.report.summary import read_summary

_SHOWN_FAILURES = 5
_SHOWN_TEXT = 200


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """What a run came to. `exit_code` is contract.md §3's; `message` says why it stopped, None where it is complete.

    `asked` are the requests answered or failed in this call; the others had their result before. `path` names the run
    directory for people. An outcome is its own call's: no later one changes it, nor a change of the working directory.
    """

    path: str
    requests: int
    ok: int
    failed: int
    asked: int
    exit_code: int
    message: str | None = None
    held: Held | None = None
    open_table: Callable[[int, list[Result]], Any] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cost summary, the total last; empty while the run is not complete."""
        if self.held is None or self.held.summary is None or self.message is not None:
            return []
        return read_summary(self.held.summary)

    @property
    def cost_usd(self) -> float | None:
        """The whole bill; None where no price is known or the run is not complete."""
        rows = self.rows
        return rows[-1]["cost_usd"] if rows else None

    @property
    def results(self) -> Any:
        """The results as a pyarrow Table, with the columns of contract.md §6. Raises JobError where the run has stopped:
        `partial` is what there is.
        """
        if self.message is not None:
            raise JobError(
                f"{self.path}: stopped with {self.ok + self.failed} of {self.requests} requests done: {self.message}\n"
                "`.partial` has what there is; the same call goes on"
            )
        return parts.read_table([] if self.held is None else self.held.results)

    @property
    def partial(self) -> Any:
        """Where the run has stopped, the results that it has so far, as a pyarrow Table; None where it is complete."""
        return None if self.message is None else self._partial()

    @property
    def failures(self) -> Any:
        """The failed results, as a pyarrow Table; also of a run that has stopped."""
        table = self.results if self.message is None else self._partial()
        return table.filter([status == "failed" for status in table["status"].to_pylist()])

    @property
    def results_path(self) -> str:
        """Where the results are, for people: the one file, or the folder of parts. Empty while there are none."""
        return "" if self.held is None else self.held.place

    def to_pandas(self) -> Any:
        """`results` as a pandas DataFrame. Raises JobError where pandas is missing, or the run has stopped."""
        try:
            return self.results.to_pandas()
        except ModuleNotFoundError as error:
            raise JobError(f"to_pandas() needs {error.name}: pip install {error.name}") from None

    def to_polars(self) -> Any:
        """`results` as a polars DataFrame. Raises JobError where polars is missing, or the run has stopped."""
        try:
            import polars
        except ModuleNotFoundError:
            raise JobError("to_polars() needs polars: pip install polars") from None
        return polars.from_arrow(self.results)

    def raise_for_status(self) -> Self:
        """Itself where every request is `ok`; else raise RunError, which says what is not."""
        if self.exit_code == 0:
            return self
        if self.message is not None:
            raise RunError(f"{self.path}: {self.message}", self.exit_code)
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._kinds().items())
        raise RunError(
            f"{self.path}: {self.failed} of {self.requests} requests failed ({kinds}); `.failures` has them",
            self.exit_code,
        )

    def __repr__(self) -> str:
        state = "complete" if self.message is None else f"stopped: {self.message}"
        counts = f"{self.ok} ok, {self.failed} failed of {self.requests} requests"
        return f"<Outcome {self.path}: {counts}, {self._price()}; {state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the counts, the cost, why it stopped, and the first failures."""
        counts = f"{self.ok} ok, {self.failed} failed of {self.requests} requests"
        lines = [f"<b>{html.escape(self.path)}</b>: {counts}, {html.escape(self._price())}"]
        if self.message is not None:
            lines.append(f"<b>stopped</b>: {html.escape(self.message)}")
        page = f"<div>{'<br>'.join(lines)}</div>"
        if not self.failed:
            return page
        first = self.failures.slice(0, _SHOWN_FAILURES).select(["row", "id", "variant", "error_kind", "error_message"])
        head = "".join(f"<th>{name}</th>" for name in first.column_names)
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in first.to_pylist())
        more = f"<div>… and {self.failed - _SHOWN_FAILURES} more</div>" if self.failed > _SHOWN_FAILURES else ""
        return f"{page}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def _price(self) -> str:
        rows = self.rows
        if not rows:
            return "cost unknown"
        total = rows[-1]
        price = shown(None if total["cost_usd"] is None else pico(total["cost_usd"]), total["unpriced"])
        return f"cost {price}" if price.startswith("unknown") else price

    def _kinds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for kind in self.failures["error_kind"].to_pylist():
            found[str(kind)] = found.get(str(kind), 0) + 1
        return found

    def _partial(self) -> Any:
        return parts.joined([*self._sealed(), *self._open()])

    def _sealed(self) -> Iterator[Any]:
        if self.held is not None and self.held.results:
            yield parts.read_table(self.held.results)

    def _open(self) -> Iterator[Any]:
        if self.held is not None and self.open_table is not None:
            for number, results in self.held.open_results():
                if results:
                    yield self.open_table(number, results)


def _cell(value: Any) -> str:
    text = str(value)
    text = text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"
    return f"<td style='text-align:left'>{html.escape(text)}</td>"
