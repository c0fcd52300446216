"""What has changed since the call before, and what it would cost, before anything in the run directory is touched.

Another input is refused where it would put the results of the first out of sight. Of a change that asks much again somebody
is to be told first; who that is, and how, is the caller's.
"""

import difflib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.judge.estimate import Estimate
from batchrun.ledger.manifest import Manifest
from batchrun.money import dollars, pico
from batchrun.report.status import read_progress
from batchrun.rows.memory import is_memory
from batchrun.rows.source import Inventory
from batchrun.rows.spool import is_pipe
from batchrun.runner.assembly import Assembly
from batchrun.runner.prepare import Preparation, remembered
from batchrun.runner.remaining import remaining

MUCH_SHARE = 0.2
MUCH_USD = 0.05
"""More of the answers than this share, or more money than this, is not asked again unseen."""
_TABLES = ("prompt", "params")
_KEYS = ("samples", "sweep", "variant")
_NO_CHANGE = {"prompt.same", "params.stream", "params.stream_options"}
_LONG = 40
_MOST_WORDS = 5000


class Change(msgspec.Struct, frozen=True):
    """`what` has changed, in words. Of the `answers` so far `again` would be asked again, for about `usd` (None: not known);
    `asked` are all requests that the call would send. `flags` are the settings of this call or the one before that are not
    the same; empty where the job file, or the input, was changed.
    """

    what: tuple[str, ...]
    answers: int
    again: int
    asked: int
    usd: float | None
    flags: tuple[str, ...]

    @property
    def is_much(self) -> bool:
        return self.again > MUCH_SHARE * self.answers or (self.again > 0 and (self.usd or 0.0) > MUCH_USD)

    @property
    def text(self) -> str:
        money = "" if self.usd is None else f", for about {dollars(pico(self.usd))}"
        return (
            f"changed since the last call: {'; '.join(self.what)}; of {self.answers} answers {self.again} are to be asked "
            f"again{money}"
        )


Confirm = Callable[[Change], Awaitable[None]]
"""Is told of a change that asks much again, and refuses by raising."""


def look(
    assembly: Assembly, preparation: Preparation, manifest: Manifest | None, check: Callable[[], None]
) -> tuple[Inventory, Change | None]:
    """The input's inventory, and what has changed since the call that left `manifest`, None where no answer is touched by it.
    Works in a thread, and calls `check` for every row. Raises JobError for another input.
    """
    answers = 0
    if manifest is not None and not preparation.is_scanned:
        answers = read_progress(assembly.run_dir).tally.ok
    if manifest is None or not answers:
        return preparation.inventory(), None
    left = Estimate(assembly.prices, assembly.endpoint)
    try:
        found = remaining(assembly, left.add, check)
    except LedgerError:  # a damaged file: what is to be done about it is said where it is used
        return preparation.inventory(), None
    kept = found.done - found.failed
    _refuse_another_input(assembly, manifest, found.inventory, kept, answers)
    changed = differences(manifest.job, assembly.kept_job())
    again = min(left.requests, max(0, answers - kept))
    stored = remembered(assembly.run_dir)
    same_files = stored is None or stored.inventory.files == found.inventory.files
    if not changed and (same_files or not again):
        return found.inventory, None  # other rows of the same input, or further ones: nothing is asked again
    cost = left.most_cost if left.most_cost is not None else left.prompt_cost
    usd = None if cost is None or not left.requests else cost * again / left.requests / 1e12
    flags = () if not changed else _other_flags({} if assembly.goes_on else manifest.given, assembly.given)
    what = tuple(changed) or ("the rows of the input",)
    return found.inventory, Change(what, answers, again, left.requests, usd, flags)


def _refuse_another_input(
    assembly: Assembly, manifest: Manifest, inventory: Inventory, kept: int, answers: int
) -> None:
    """The place of an input does not tell it from others where it came from a pipe or from memory; its content always does: most
    of the answers are to its rows, or a whole shard of them stands in both.
    """
    before, now = manifest.job.get("input", {}).get("path"), assembly.kept_job()["input"]["path"]
    if not inventory.rows or (before == now and not is_pipe(str(now))):
        return
    stored = remembered(assembly.run_dir)
    known = set() if stored is None else {info.digest for info in stored.inventory.shards}
    if 2 * kept >= answers or known & {info.digest for info in inventory.shards}:
        return
    where = assembly.run_dir.url
    raise JobError(
        f"{where} holds the results of another input, {_shown(before)}: {kept} of its {answers} answers are to rows of "
        f"{_shown(now)}, and the others would be out of sight. Give this one a directory of its own with -o, or name the "
        f"other input again; --fresh sets the run in {where} aside"
    )


def _shown(path: str | None) -> str:
    if path is None or is_memory(path):
        return "rows from memory"
    return "what came through a pipe" if is_pipe(path) else path


def _other_flags(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in {**before, **now} if before.get(name) != now.get(name))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two jobs, as run.json keeps them, ask otherwise, in words: `prompt.user, 3 words`, `model a → b`."""
    old, new = _asked(before), _asked(now)
    return [_told(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]


def _asked(job: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes a job's requests, by key."""
    found = {f"{table}.{key}": value for table in _TABLES for key, value in (job.get(table) or {}).items()}
    found["model"] = (job.get("endpoint") or {}).get("model")
    found["input.id"] = (job.get("input") or {}).get("id")
    found |= {key: job.get(key) for key in _KEYS}
    return {name: value for name, value in found.items() if name not in _NO_CHANGE}


def _told(name: str, before: Any, now: Any) -> str:
    if isinstance(before, str) and isinstance(now, str) and (name.startswith("prompt.") or len(before + now) > _LONG):
        return f"{name}, {_words(before.split(), now.split())}"
    if now is None:
        return f"{name} is gone"
    short = _short(now)
    if short is None:
        return name
    if before is None:
        return f"{name} {short} is new"
    return f"{name} {_short(before)} → {short}" if _short(before) is not None else name


def _short(value: Any) -> str | None:
    """A value that fits into a line, None for others."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return None if len(text) > _LONG or isinstance(value, dict | list) else text


def _words(before: list[str], now: list[str]) -> str:
    """How many words two texts differ in."""
    if len(before) + len(now) > _MOST_WORDS:
        return "a long text"
    found = difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes()
    count = sum(max(end - start, to - of) for kind, start, end, of, to in found if kind != "equal")
    return "spaces" if not count else f"{count} word{'s' * (count > 1)}"
