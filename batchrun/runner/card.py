"""All that a run directory knows of one row's requests, for `batchrun show`."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from batchrun.errors import JobError
from batchrun.ledger.layout import result_names
from batchrun.ledger.lines import Line
from batchrun.records import Request
from batchrun.report import plain
from batchrun.runner.reading import Reading

_PROMPTS = ("messages", "prompt", "input")


class Card(msgspec.Struct, frozen=True):
    """One request. `result` are the columns of its result, None while there is none. `messages` are what was sent, None
    where `lacks` says why they can't be told; `is_as_sent` says that they are just those, `parameters` what went with them.
    """

    row: int
    id: str
    variant: str
    sample: int
    result: dict[str, Any] | None
    attempts: tuple[str, ...] = ()
    messages: list[Any] | None = None
    parameters: dict[str, Any] = {}
    is_as_sent: bool = True
    lacks: str = ""

    @property
    def status(self) -> str:
        return "no result yet" if self.result is None else str(self.result["status"])

    def shown(self) -> dict[str, Any]:
        """The card for `--json`."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {**found, "status": self.status}


def cards(path: str, row: str, *, by_id: bool = False) -> list[Card]:
    """The requests of a row, named by its number or its id; empty where there is no such row. Raises JobError."""
    reading = Reading(path)
    if not by_id and row.isascii() and row.isdigit() and (found := _of_row(reading, int(row))):
        return found
    results = _results(reading, "id", row)
    if results:
        numbers = sorted({result["row"] for result in results})
    else:
        number = reading.row_called(row)
        numbers = [] if number is None else [number]
    return [card for number in numbers for card in _of_row(reading, number)]


def _of_row(reading: Reading, row: int) -> list[Card]:
    results = {(one["variant"], one["sample"]): one for one in _results(reading, "row", row)}
    requests: dict[tuple[str, int], Request] = {}
    lacks = ""
    try:
        requests = {(one.variant, one.sample): one for one in reading.requests_of(row)}
    except JobError as error:
        lacks = str(error)
    records = reading.records_of(row)
    keys = [*requests, *(key for key in results if key not in requests)]
    return [_card(row, key, results.get(key), requests.get(key), records, lacks) for key in keys]


def _card(
    row: int,
    key: tuple[str, int],
    result: dict[str, Any] | None,
    request: Request | None,
    records: list[Line],
    lacks: str,
) -> Card:
    variant, sample = key
    name = result["id"] if result is not None else request.id if request is not None else str(row)
    attempts = tuple(_attempts(records, key, result))
    kept = None if result is None else result.get("prompt")
    body = {} if request is None else msgspec.json.decode(request.body)
    prompts = next((body.pop(one) for one in _PROMPTS if one in body), None)
    is_as_sent = result is None or request is None or request.hash == result["request_hash"]
    if isinstance(kept, str) and kept:
        prompts, is_as_sent = json.loads(kept), True
    if prompts is None:
        return Card(row, name, variant, sample, result, attempts, lacks=lacks or "the job has no such variant now")
    messages = prompts if isinstance(prompts, list) else [prompts]
    return Card(row, name, variant, sample, result, attempts, messages, body, is_as_sent)


def _attempts(records: list[Line], key: tuple[str, int], result: dict[str, Any] | None) -> Iterator[str]:
    """Each attempt in words: from the journal while the shard is open, else as far as the result counts them."""
    mine = [line for line in records if _key_of(line) == key]
    for line in mine:
        if line.lost is not None:
            lost = " (its answer was lost: it may have been billed)" if line.lost.unconfirmed else ""
            yield f"{line.lost.kind or 'broken off with its run'}{lost}"
        elif line.carried is not None:
            yield f"{line.carried.failed + line.carried.unconfirmed} before, none of which brought this answer"
        elif line.paid is not None:
            yield "answered, and that answer was not taken"
        elif line.result is not None and line.result.status == "ok":
            yield "answered"
    if result is not None:
        yield from _counted(result) if not mine else ()
    elif sum(line.sent is not None for line in mine) > sum(line.lost is not None for line in mine):
        yield "on the wire"


def _counted(result: dict[str, Any]) -> Iterator[str]:
    """The attempts of a sealed result, of which only the numbers are kept."""
    count, lost = result["attempts"], result["unconfirmed_attempts"]
    failed = count - (result["status"] == "ok")
    if failed > 0:
        unsure = f" ({lost} of them with the answer lost: may have been billed)" if lost else ""
        yield f"{failed} failed{unsure}"
    if result["status"] == "ok":
        yield "the last one answered" if failed > 0 else "answered at the first attempt"


def _results(reading: Reading, column: str, value: int | str) -> list[dict[str, Any]]:
    """Results as plain data, without their input's columns."""
    tables = (table.select(result_names(table.column_names)) for table in reading.found(column, value))
    return [one for table in tables for one in plain.rows(table)]


def _key_of(line: Line) -> tuple[str, int] | None:
    """The variant and the sample that a record is of."""
    said = line.sent or line.lost or line.carried or line.paid or line.result
    return None if said is None else (said.variant, said.sample)
