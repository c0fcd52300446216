"""The Python face: `run`, `plan`, `check`, each also to be awaited, and the jobs they take (contract.md §8)."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.from_thread import start_blocking_portal

from batchrun.errors import JobError, RunError
from batchrun.events import Hear
from batchrun.interrupts import Interrupts, interruptible, taken
from batchrun.job import Job
from batchrun.judge.prices import Prices
from batchrun.report.display import LOGGER, Display, Shows, noted
from batchrun.runner.assembly import Assembly
from batchrun.runner.changes import Confirm
from batchrun.runner.kept import to_read
from batchrun.runner.outcome import Outcome
from batchrun.runner.outlook import Outlook, Trial, outlook, trial
from batchrun.runner.session import Session
from batchrun.runner.stopped import interrupted
from batchrun.runner.watched import watching
from batchrun.settings import Settings, explicit
from batchrun.sources import Source, as_file, asked_with, failures_named, make_job
from batchrun.wire.carrier import Transport

__all__ = [
    "Job",
    "JobError",
    "Outcome",
    "Outlook",
    "RunError",
    "Trial",
    "acheck",
    "aplan",
    "arun",
    "check",
    "plan",
    "run",
]

_Result = TypeVar("_Result")


@explicit
def run(
    source: Source,
    *,
    fresh: bool = False,
    retry_failed: bool | str | Iterable[str] = False,
    listener: Callable[[int, Prices], Hear] | None = None,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    confirm: Confirm | None = None,
    progress: Shows = "auto",
    signals: bool | None = None,
    **settings: Unpack[Settings],
) -> Outcome:
    """Run a job, or go on with it: the same call again resumes.

    `source` is a job file, an input (a file, a folder, a glob, a URL), a run directory, a Job, or rows: dicts, a pyarrow
    table, a pandas or polars frame. Works in a notebook's cell and in any thread. An interrupt from the keyboard waits for
    what is in flight, for `[timeouts] drain` seconds at most, and the Outcome says that the run has stopped; the same call
    goes on. SIGTERM and SIGHUP wait too, before they end the process.

    `fresh` sets an earlier run aside and starts over, `retry_failed` asks failed requests again, all of them or those of
    some kinds (`"timeout"`, `["server", "timeout"]`). `listener` makes a listener to events (batchrun.events) from the
    number of requests and the prices; what it raises is logged. `on_note` takes single messages, which else go to the
    logger `batchrun`, as what happens in the run does (level INFO). `environ` is read in place of the environment.
    `transport` is any httpx transport to use in place of the own one. `confirm` is awaited with what has changed since the
    last call (runner.changes.Change) where that asks much again, and refuses by raising; None: it is noted. `progress` is
    auto (a bar in a terminal and in a notebook), bar, log or none. `signals` says whether SIGINT, SIGTERM and SIGHUP are the
    run's, which then ends with an Outcome; None: as said above, where this is the main thread and nobody else handles them.
    Raises JobError before anything was sent; a stop by a guard, a signal or the disk is an Outcome with its exit code.
    """
    begun: list[Interrupts] = []
    call = partial(
        _arun,
        source,
        settings,
        fresh=fresh,
        retry_failed=retry_failed,
        listener=listener,
        on_note=on_note,
        environ=environ,
        transport=transport,
        confirm=confirm,
        progress=progress,
        signals=[] if _in_a_loop() else taken(signals),
        begun=begun.append,
    )
    outcome = _blocking(call, lambda: begun[0].take(signal.SIGINT) if begun else None)
    if signals is None and begun and begun[0].signal is not None:
        if begun[0].signal is signal.SIGINT:
            LOGGER.warning("%s: %s", outcome.path, outcome.message)
        else:
            signal.raise_signal(begun[0].signal)  # the run has ended well; now it ends the process, as it was to
    return outcome


@explicit
async def arun(
    source: Source,
    *,
    fresh: bool = False,
    retry_failed: bool | str | Iterable[str] = False,
    listener: Callable[[int, Prices], Hear] | None = None,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    confirm: Confirm | None = None,
    progress: Shows = "auto",
    signals: bool = False,
    **settings: Unpack[Settings],
) -> Outcome:
    """What `run` does, to be awaited. Signals are left to the loop's owner, but with `signals`."""
    return await _arun(
        source,
        settings,
        fresh=fresh,
        retry_failed=retry_failed,
        listener=listener,
        on_note=on_note,
        environ=environ,
        transport=transport,
        confirm=confirm,
        progress=progress,
        signals=taken(signals),
    )


async def _arun(
    source: Source,
    settings: Settings,
    *,
    fresh: bool,
    retry_failed: bool | str | Iterable[str],
    listener: Callable[[int, Prices], Hear] | None,
    on_note: Callable[[str], None] | None,
    environ: Mapping[str, str] | None,
    transport: Transport | None,
    confirm: Confirm | None,
    progress: Shows,
    signals: Collection[signal.Signals],
    begun: Callable[[Interrupts], None] | None = None,
) -> Outcome:
    """`begun` gets what the run can be interrupted by, from another thread."""
    retried = failures_named(retry_failed)
    display = Display(progress)
    assembly = await anyio.to_thread.run_sync(_assembly, source, settings, environ, noted(on_note))

    def listening(total: int, prices: Prices) -> Hear:
        return display.listening(total, None if listener is None else partial(listener, total, prices))

    cut_short: Outcome | None = None
    # taking the lock and giving it back write to the disk too: a signal meanwhile is heard when they have ended
    async with interruptible(signals, hears=begun) as interrupts:
        with (
            assembly.run_dir.held(),
            watching(assembly.job.metrics, assembly.run_dir.url, assembly.endpoint, assembly.note) as watch,
        ):
            try:
                return await Session(assembly, interrupts, watch).run(
                    fresh=fresh, retried=retried, listener=listening, transport=transport, confirm=confirm
                )
            except anyio.get_cancelled_exc_class():
                cut_short = interrupted(assembly.run_dir, interrupts)
                raise
            finally:
                display.close()
    assert cut_short is not None
    return cut_short


@explicit
def plan(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Outlook:
    """What a run would do, and about what it would cost: of what is left where a run has begun. Sends nothing and writes
    nothing, needs no key, and may be asked beside a run under way. Raises JobError.
    """
    return outlook(_assembly(source, settings, environ, on_note, asks=False))


@explicit
async def aplan(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Unpack[Settings],
) -> Outlook:
    """What `plan` does, to be awaited: the input is read in a thread."""
    return await anyio.to_thread.run_sync(partial(plan, source, on_note=on_note, environ=environ, **settings))


@explicit
def check(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    **settings: Unpack[Settings],
) -> Trial:
    """Send the first request once and tell what came back; of a sweep, one for each model and set of parameters, whose trials
    are the first one's `others`. Writes nothing. Raises JobError.
    """
    return _blocking(partial(acheck, source, on_note=on_note, environ=environ, transport=transport, **settings))


@explicit
async def acheck(
    source: Source,
    *,
    on_note: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    **settings: Unpack[Settings],
) -> Trial:
    """What `check` does, to be awaited."""
    return await trial(await anyio.to_thread.run_sync(_assembly, source, settings, environ, on_note), transport)


def _assembly(
    source: Source,
    settings: Settings,
    environ: Mapping[str, str] | None,
    on_note: Callable[[str], None] | None = None,
    *,
    asks: bool = True,
) -> Assembly:
    """The parts of a job; of one that is not to be asked with, without whatever a key is needed for."""
    plain, memory = as_file(source)
    job, variables = make_job(plain, on_note=on_note, **settings), os.environ if environ is None else environ
    assembly = Assembly(job if asks else to_read(job, variables), variables, on_note)
    assembly.memory = memory
    assembly.given, assembly.goes_on = asked_with(settings), plain == assembly.run_dir.place
    return assembly


def _in_a_loop() -> bool:
    """Whether an event loop runs in this thread, as in a notebook's cell."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _blocking(call: Callable[[], Awaitable[_Result]], interrupt: Callable[[], object] | None = None) -> _Result:
    """Run to the end, from anywhere: in a thread of its own where an event loop runs in this one. There an interrupt from the
    keyboard goes to `interrupt`, in the call's loop, and the end is waited for.
    """
    if not _in_a_loop():
        return anyio.run(call)
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(call)
        while True:
            try:
                return future.result()
            except KeyboardInterrupt:
                if interrupt is None:
                    future.cancel()
                    raise
                portal.call(interrupt)
