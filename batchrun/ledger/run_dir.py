"""The run directory: its layout, its lock (one writer), its manifest, and setting an old run aside (contract.md §6, §7.8).

What is published (results, parts, summary, manifest, inventory) stands in a store, which may be a bucket; the working
state (journals, lock, index) is always local: in `.state` of a local run, in a folder of the user's for a bucket.
"""

import contextlib
import datetime
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from batchrun.errors import JobError, LedgerError
from batchrun.ledger import durable, lock
from batchrun.ledger.durable import FILE_MODE, disk_faults, make_dir
from batchrun.ledger.formats import FORMAT, Numbered, refusal
from batchrun.ledger.manifest import Manifest
from batchrun.ledger.store import LocalStore, Store, Stored, is_url, object_store, one_line, shown_url, write_whole

_STATE = ".state"
LOG = "log.jsonl"
_PARTS = "results"
_SUPERSEDED = f"{_STATE}/superseded"


class RunDir:
    """The places of one run, and the lock while it is held. `url` names it for people, `place` is how it was given.

    `state` names the local folder for the working state of a run in a bucket; without it, it is one of the user's.
    """

    def __init__(self, path: str, state: str | None = None) -> None:
        self.place = path
        local = unquote(urlsplit(path).path) if path.startswith("file://") else path
        self.store: Store
        if is_url(local):
            self.url = shown_url(path)
            self.state = Path(state) if state else _own_state(path)
            self.store = object_store(path, self.state)
        else:
            self.url = local
            self.state = Path(local) / _STATE
            self.store = LocalStore(Path(local))
        self.is_local = isinstance(self.store, LocalStore)
        self.results = Stored(self.store, "results.parquet")
        self.summary = Stored(self.store, "cost_summary.parquet")
        self.manifest = Stored(self.store, "run.json")
        self.inventory = Stored(self.store, f"{_STATE}/inventory.json")
        self.log = (self.state.parent if self.is_local else self.state) / LOG
        self._lock = -1

    def part(self, number: int) -> Stored:
        return Stored(self.store, f"{_PARTS}/part-{number:05d}.parquet")

    def journal(self, number: int) -> Path:
        return self.state / f"journal-{number:05d}.jsonl"

    def sealed(self) -> set[int]:
        """The numbers of the shards that have a part."""
        return _numbers(self.store.names(_PARTS), "part-", ".parquet")

    def open_journals(self) -> set[int]:
        return _numbers((path.name for path in self.state.glob("journal-*.jsonl")), "journal-", ".jsonl")

    def acquire(self) -> None:
        """Create the directory and take the lock; from here on every name in it is durable. Raises JobError naming the
        holder, or what can't be written.
        """
        known = self.state.is_dir()
        try:
            make_dir(self.state)
            with disk_faults(self.state):
                handle = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except LedgerError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else str(error)
            raise JobError(
                f"{self.url}: the output cannot be written there: {reason}; give another place with -o"
            ) from None
        try:
            lock.take(handle, self.state / "lock", self.url)
            folders = (self.state, *((self.state.parent / _PARTS, self.state.parent) if self.is_local else ()))
            for folder in folders:
                durable.sweep(folder)
            if known:
                self._renew(folders)
        except BaseException:
            os.close(handle)
            raise
        self._lock = handle

    def _renew(self, folders: Sequence[Path]) -> None:
        """Make durable what an earlier writer left, before anything is built on it. What was moved is made so in its new
        folder first: a power loss in between loses no name.
        """
        root = self.state.parent if self.is_local else self.state
        aside = [self.state / "superseded", self.state / "unreadable", root / "set-aside"]
        targets = [Path(place) for one in aside for place, _folders, _files in os.walk(one, topdown=False)]
        try:
            durable.sync_parents(folders[-1])
            durable.finish_moves(targets, folders)
            durable.renew(folder for folder in (*targets, *folders) if folder.is_dir())
        except LedgerError as error:  # nothing has been sent
            raise JobError(str(error)) from None

    def locked_by_another(self) -> bool:
        """Whether a run is under way there."""
        return lock.is_held(self.state / "lock")

    def say(self, text: str) -> None:
        """Let others know what the run waits for, an empty text when for nothing. It is no matter if that can't be told."""
        with contextlib.suppress(OSError):
            lock.say(self._lock, text)

    def said(self) -> str:
        """What a run that is under way waits for."""
        return lock.said(self.state / "lock")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The lock, for as long as this lasts. Raises JobError where another holds it."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def result_files(self) -> list[Stored]:
        """Where the results are: results.parquet, or the parts in order."""
        return [self.results] if self.results.exists() else [self.part(number) for number in sorted(self.sealed())]

    def drop_parts(self) -> None:
        """Remove the parts, once results.parquet and a manifest that says complete are durable."""
        names = [self.part(number).name for number in sorted(self.sealed())]
        if isinstance(self.store, LocalStore):
            durable.discard([self.store.root / name for name in names])
            self._drop_folder(_PARTS)
        else:
            self.store.remove(names)

    def _drop_folder(self, name: str) -> None:
        if isinstance(self.store, LocalStore):
            with contextlib.suppress(OSError):
                (self.store.root / name).rmdir()

    def release(self) -> None:
        if self._lock >= 0:
            with contextlib.suppress(LedgerError):
                if not self.manifest.exists():
                    self._vanish()
            os.close(self._lock)
            self._lock = -1

    def _vanish(self) -> None:
        """Nothing was begun (a fault in the job or its input): leave no empty folders behind."""
        with contextlib.suppress(OSError):
            if {path.name for path in self.state.iterdir()} == {"lock"}:
                self._drop_folder(_PARTS)
                (self.state / "lock").unlink()
                self.state.rmdir()
                self._drop_folder("")

    def read_manifest(self) -> Manifest | None:
        """The manifest, or None where there is no run yet. Raises JobError where it can't be understood."""
        try:
            data = self.manifest.read()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise JobError(f"{self.url}: a file, and no run directory; give the directory of a run") from None
        except OSError as error:
            raise JobError(f"{self.manifest}: {error.strerror}") from None
        except LedgerError as error:
            raise JobError(str(error)) from None
        try:
            refused = refusal(self.manifest, msgspec.json.decode(data, type=Numbered).format)
            if refused is not None:
                raise JobError(refused)
            manifest = msgspec.json.decode(data, type=Manifest)
            for time_of in (manifest.started_at, manifest.resumed_at):
                if time_of:
                    datetime.datetime.fromisoformat(time_of)
        except ValueError as error:  # of JSON, of UTF-8, of a time
            raise JobError(
                f"{self.manifest}: not a run's manifest: {one_line(error)}. Remove it and run the same command again: no "
                "answer is in it"
            ) from None
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        numbered = msgspec.structs.replace(manifest, format=FORMAT)
        write_whole(self.manifest, msgspec.json.format(msgspec.json.encode(numbered), indent=2) + b"\n")

    def set_aside(self) -> str | None:
        """Move everything of an earlier run into a folder of its own; returns its place, None where there was nothing.

        The manifest goes last: until then the directory holds a run that `--fresh` can be tried on again.
        """
        working = [path for path in sorted(self.state.iterdir()) if path.name not in ("lock", "set-aside")]
        names = [f"{_PARTS}/{name}" for name in self.store.names(_PARTS)]
        if not self.is_local:
            names += [
                f"{_SUPERSEDED}/{one}/{name}" for one in self.superseded() for name in self._superseded_names(one)
            ]
        names += [file.name for file in (self.inventory, self.results, self.summary, self.manifest) if file.exists()]
        if not names and not any(path.is_file() for path in working):
            return None
        if self.is_local and self.log.exists():
            names.append(LOG)
        folder = self.new_folder("set-aside")
        for name in names:
            inner = f"{folder}/{name.rpartition('/')[0]}".rstrip("/")
            if name != self.manifest.name:
                self.store.move([name], inner)
        left = [path for path in working if path.exists()]
        if left:
            durable.move(left, self.state.parent / folder / _STATE if self.is_local else self.state / folder)
        if self.manifest.exists():
            self.store.move([self.manifest.name], folder)
        return f"{self.url}/{folder}"

    def supersede(self, files: Iterable[Stored], journals: Iterable[Path]) -> None:
        """Set files that no longer answer the job aside; their answers may still be drawn upon."""
        names, paths = [file.name for file in files], list(journals)
        if not names and not paths:
            return
        folder = self.new_folder(_SUPERSEDED)
        if names:
            self.store.move(names, folder)
        if paths:
            durable.move(paths, self.state / "superseded" / folder.rpartition("/")[2])

    def superseded(self) -> list[str]:
        """The names of the folders that `supersede` made, oldest first."""
        found = {path.name for path in (self.state / "superseded").glob("*")}
        return sorted(found | set(self.store.folders(_SUPERSEDED)), key=_age)

    def superseded_files(self, name: str) -> list[Stored | Path]:
        """What a folder that `supersede` made holds: results.parquet, parts and journals."""
        published = [Stored(self.store, f"{_SUPERSEDED}/{name}/{one}") for one in self._superseded_names(name)]
        return [*published, *sorted((self.state / "superseded" / name).glob("journal-*.jsonl"))]

    def _superseded_names(self, name: str) -> list[str]:
        return [one for one in self.store.names(f"{_SUPERSEDED}/{name}") if one.endswith(".parquet")]

    def all_results(self) -> list[Stored | Path]:
        """Everything that holds a result of the present run: results.parquet, parts and journals."""
        published = [self.results] if self.results.exists() else []
        published += [self.part(number) for number in sorted(self.sealed())]
        return [*published, *(self.journal(number) for number in sorted(self.open_journals()))]

    def new_folder(self, parent: str) -> str:
        """A name that no folder has yet: the time, and a number where the second had one already."""
        stem = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        taken = {*self.store.folders(parent), *(path.name for path in (self.state / "superseded").glob("*"))}
        number = 0
        while f"{stem}-{number}" in taken:
            number += 1
        return f"{parent}/{stem}-{number}"


def _numbers(names: Iterable[str], prefix: str, suffix: str) -> set[int]:
    found = (name.removeprefix(prefix).removesuffix(suffix) for name in names if name.startswith(prefix))
    return {int(text) for text in found if text.isdigit()}


def _age(name: str) -> tuple[str, int]:
    stem, _, number = name.partition("-")
    return stem, int(number) if number.isdigit() else 0


def _own_state(url: str) -> Path:
    """The local folder for the working state of a run that stands elsewhere: one for each URL, whoever's key is in it."""
    parts = urlsplit(url)
    identity = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return root / "batchrun" / f"{parts.path.strip('/').rpartition('/')[2] or 'run'}-{digest}"
