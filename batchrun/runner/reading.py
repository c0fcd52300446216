"""A run directory read as it is, by other commands than the run: also while the run is under way, or has stopped.

Takes no lock and writes nothing. Sealed files and journals are held together, as one cut; what needs the input (the input's
columns of open shards, a prompt) is read from where the kept job says.
"""

import contextlib
import itertools
import shlex
from collections.abc import Iterator
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.job import Job
from batchrun.ledger import parts
from batchrun.ledger.held import Held
from batchrun.ledger.layout import NO_INPUT, completed
from batchrun.ledger.lines import Line
from batchrun.ledger.manifest import Manifest
from batchrun.ledger.run_dir import RunDir
from batchrun.records import Request, Result, ShardInfo
from batchrun.report import lookup
from batchrun.report.chosen import Chosen
from batchrun.report.export import write
from batchrun.report.failures import failed_in
from batchrun.report.status import state_of
from batchrun.rows.plain import RowError
from batchrun.rows.spool import is_pipe
from batchrun.runner.assembly import Assembly
from batchrun.runner.kept import to_read
from batchrun.runner.prepare import Remembered, remembered


class Reading:
    """What a run directory holds at one moment. Raises JobError where there is no run.

    `state` is as `status` tells it. `lacks` says why the input can't be read, empty where it can.
    """

    def __init__(self, path: str) -> None:
        run_dir = RunDir(path)
        manifest = run_dir.read_manifest()
        if manifest is None:
            raise JobError(f"{run_dir.url}: no run there (no run.json); give a run directory")
        self.manifest: Manifest = manifest
        self.run_dir = RunDir(path, manifest.state_dir or None)
        self.held = Held(self.run_dir, opens=True)
        self.state = state_of(self.run_dir, manifest)
        self.lacks = ""
        self._assembly: Assembly | None = None
        self._remembered: Remembered | None = None

    @property
    def requests(self) -> int:
        return self.manifest.counts.requests

    @property
    def why_missing(self) -> str:
        """Why results are missing, and what to do."""
        go_on = f"batchrun run {shlex.quote(self.run_dir.place)} goes on"
        if self.state == "running":
            return "the run is under way"
        if self.state == "stopped":
            return f"{self.manifest.message or 'the run was stopped'}; {go_on}"
        if self.state == "interrupted":
            return f"its process has died; {go_on}"
        return self.lacks or "its files are not all there"

    def export(self, target: str, chosen: Chosen, *, spreadsheet: bool = False) -> tuple[int, int]:
        """Write the chosen ones of the results there are to `target`, whose ending chooses the format; returns how many are
        written, and how many there are. Raises JobError.
        """
        tables = self.tables()
        first = next(tables, None)
        if first is None:
            raise JobError(f"{self.run_dir.url}: no results yet; see batchrun status {self.run_dir.url}")
        there = 0

        def counted() -> Iterator[Any]:
            nonlocal there
            for table in itertools.chain([first], tables):
                there += table.num_rows
                yield table

        written = write(chosen.schema(first.schema), chosen.of(counted()), target, spreadsheet=spreadsheet)
        return written, there

    def tables(self) -> Iterator[Any]:
        """All results there are with their input's columns, as pyarrow Tables of one schema, in input order."""
        if self.state == "complete":
            for file in self.held.results:
                yield from parts.read_groups(file)
            return
        schema = None
        for table in self._in_order():
            whole = completed(table)
            schema = whole.schema if schema is None else schema
            yield whole.select(schema.names).cast(schema)

    def failed(self) -> Iterator[Result]:
        """The failed results there are, of sealed shards without their texts."""
        yield from failed_in(self.held.results)
        for _number, results in self.held.open_results():
            yield from (one for one in results if one.status != "ok")

    def results(self) -> Iterator[Result]:
        """The results there are, without raw bodies and vectors, and of open shards behind those of sealed ones."""
        for file in self.held.results:
            yield from parts.read_results(file, whole=False)
        for _number, results in self.held.open_results():
            yield from results

    def found(self, column: str, value: int | str) -> Iterator[Any]:
        """The results that have a value in a column of theirs, as pyarrow Tables."""
        for file in self.held.results:
            yield from lookup.tables(file, column, value)
        for number, results in self.held.open_results():
            if wanted := [one for one in results if getattr(one, column) == value]:
                yield self._open_table(number, wanted)

    def row_called(self, name: str) -> int | None:
        """The number of the first row of the input that has an id, as far as the input can be read."""
        assembly = self._reader()
        if assembly is None or self._remembered is None:
            return None
        with contextlib.suppress(JobError):  # of an input that has changed
            for info in self._remembered.inventory.shards:
                for row in assembly.source.read(info).rows:
                    if row.id == name:
                        return row.index
        return None

    def records_of(self, row: int) -> list[Line]:
        """What the journal says of a row's requests, where its shard is open."""
        info = self._info(row)
        said = [] if info is None else self.held.records(info.number)
        return [line for line in said if _row_of(line) == row]

    def requests_of(self, row: int) -> list[Request]:
        """A row's requests as the kept job and the input make them now. Raises JobError where they can't be made."""
        info = self._info(row)
        if info is None:
            raise JobError(self.lacks or f"row {row} is not in the input")
        assembly = self._reader()
        if assembly is None:
            raise JobError(self.lacks)
        found = next((one for one in assembly.source.read(info).rows if one.index == row), None)
        if found is None:
            raise JobError(f"row {row} is not asked: the input has it, and the job leaves it out")
        try:
            return assembly.builder.build(found, info.number)
        except RowError as error:
            raise JobError(f"no request can be made of the row: {error}") from None

    def _in_order(self) -> Iterator[Any]:
        opened = dict(self.held.open_results())
        sealed = dict(zip(self.held.numbers, self.held.results, strict=False))
        if not sealed:  # one file, or none
            for file in self.held.results:
                yield from parts.read_groups(file)
        for number in sorted({*sealed, *opened}):
            if number in sealed:
                yield from parts.read_groups(sealed[number])
            elif opened[number] and self._reader() is not None:
                yield self._open_table(number, opened[number])

    def _open_table(self, number: int, results: list[Result]) -> Any:
        """Some results of an open shard as the table that they would be in its part; without the input's columns where the
        input can't be read.
        """
        assembly = self._reader()
        if assembly is None or self._remembered is None:
            return parts.unsealed(NO_INPUT, None, (), results)
        return assembly.open_table(self._remembered.inventory)(number, results)

    def _info(self, row: int) -> ShardInfo | None:
        """The shard that a row stands in; None where it stands in none."""
        if self._reader() is None or self._remembered is None:
            return None
        before = [one for one in self._remembered.inventory.shards if one.first_row <= row]
        return before[-1] if before else None

    def _reader(self) -> Assembly | None:
        """The kept job's parts, without whatever needs a key; None where the input can't be read."""
        if self._assembly is None and not self.lacks:
            try:
                self._remembered = remembered(self.run_dir)
                if self._remembered is None:
                    raise JobError("its input is not known any more (.state is gone)")
                self._assembly = Assembly(_keyless(self.manifest, self.run_dir), {})
            except (JobError, LedgerError) as error:
                self.lacks = str(error)
        return self._assembly


def _keyless(manifest: Manifest, run_dir: RunDir) -> Job:
    """The kept job, to be read by and not to be asked with. Raises JobError."""
    try:
        job = msgspec.convert(manifest.job, Job)
    except msgspec.ValidationError as error:
        raise JobError(f"its run.json is of another version ({error})") from None
    if job.input.path is not None and is_pipe(job.input.path):
        raise JobError("its input came from a pipe, which is gone")
    output = msgspec.structs.replace(job.output, path=run_dir.place)
    return msgspec.structs.replace(to_read(job, {}), output=output)


def _row_of(line: Line) -> int | None:
    said = line.sent or line.lost or line.carried or line.paid or line.result
    return None if said is None else said.row
