"""Runs `batchrun` in forks of one process that has everything loaded: a call costs a fraction of a new interpreter's.

Reads one JSON order a line (args, cwd, env, out, err) and answers with the exit code (negative: the signal). Each call is
a process of its own, with its own folder, environment and output files. An output may also be closed (null), or a pipe
whose reader has gone ("|"). `umask` and `user` (a uid) are the call's own, where they are given; with `haste` its event loop's
time passes so many times as fast, for a call that would only wait.
"""

import asyncio
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from typing import Any

import batchrun.cli

LOADED = """aiohttp anyio._backends._asyncio genai_prices genai_prices.data genai_prices.data_units httpx_aiohttp jinja2.sandbox
pyarrow.dataset pyarrow.fs pyarrow.parquet starlette tenacity tqdm typer batchrun.api batchrun.cli.app batchrun.report.progress
batchrun.report.status batchrun.report.export"""
ENDS_AFTER_S = 90


def child(order: dict[str, Any]) -> int:
    signal.alarm(ENDS_AFTER_S)  # a call that hangs fails its test, and no more
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, name in ((1, "out"), (2, "err")):
        redirect(number, order[name])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if order.get("umask") is not None:
        os.umask(order["umask"])
    if order.get("user") is not None:
        os.setuid(order["user"])
    encoding = order["env"].get("PYTHONIOENCODING", "utf-8")
    for number, name in ((1, "stdout"), (2, "stderr")):
        place = order[name.removeprefix("std")]
        stream = None if place is None else open(number, "w", 1, encoding, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    if order.get("haste") is not None:
        hasten(order["haste"])
    sys.argv = ["batchrun", *order["args"]]
    try:
        batchrun.cli.main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 98
    return 0


def hasten(times: float) -> None:
    """Let the time of event loops pass so many times as fast: waits and limits of time become shorter by as much."""
    select, monotonic = selectors.DefaultSelector.select, time.monotonic

    def sooner(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        return select(self, timeout / times if timeout is not None and timeout > 0 else timeout)

    selectors.DefaultSelector.select = sooner  # type: ignore[method-assign, assignment]
    asyncio.BaseEventLoop.time = lambda _self: monotonic() * times  # type: ignore[method-assign]


def redirect(number: int, place: str | None) -> None:
    if place is None:
        os.close(number)
    elif place == "|":
        reader, writer = os.pipe()
        os.dup2(writer, number)
        os.close(writer)
        os.close(reader)
    else:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)


def main() -> None:
    for name in LOADED.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            code = child(json.loads(line))
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(code)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
