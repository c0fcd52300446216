"""Runs `batchrun` in forks of one process that has everything loaded: a call costs a fraction of a new interpreter's.

Reads one JSON order a line and forks; says `PID` when a fork starts and `PID CODE` when it has ended (negative: the signal).
Each is a process of its own, with its own folder and output files; forks.py is the tests' side. An order has

    args            what follows `batchrun`; or `script`, the path of a Python script that is run instead
    cwd, env        its folder and its environment (null: as it is here)
    in, out, err    paths. null: standard input is empty, an output is closed; "|" is a pipe whose reader has gone
    session         true: it leads a session of its own
    terminal        the path of a terminal, which takes the place of the three above and is the session's
    ends_after_s    it is killed then: a call that hangs fails its test, and no more

and what surroundings.py knows of.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any

import typer.core
import typer.main

import batchrun.cli
from batchrun.cli.app import app
from surroundings import surround

OUTSIDE = """anyio._backends._asyncio anyio._core._signals certifi encodings.idna genai_prices.data genai_prices.data_units
jinja2.sandbox pyarrow.compute pyarrow.csv pyarrow.fs pyarrow.json pyarrow.parquet stringprep tenacity tqdm truststore._openssl
typer._adapters typer._click.decorators"""


def child(order: dict[str, Any]) -> int:
    signal.alarm(order["ends_after_s"])
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    if order["env"] is not None:
        os.environ.clear()
        os.environ.update(order["env"])
    place_streams(order)
    surround(order)
    try:
        if "script" in order:
            sys.argv = [order["script"]]
            runpy.run_path(order["script"], run_name="__main__")
        else:
            sys.argv = ["batchrun", *order["args"]]
            batchrun.cli.main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 98
    return 0


def place_streams(order: dict[str, Any]) -> None:
    """Put the order's files, or its terminal, where standard input and output are, and Python's streams on them."""
    places = {"in": order["in"] or os.devnull, "out": order["out"], "err": order["err"]}
    if order["terminal"]:
        places = dict.fromkeys(places, order["terminal"])  # the first that opens it has it
    for number, place in enumerate(places.values()):
        redirect(number, place)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    for number, name in ((1, "out"), (2, "err")):
        stream = None if places[name] is None else open(number, "w", 1, encoding, closefd=False)  # noqa: SIM115
        setattr(sys, f"std{name}", stream)


def redirect(number: int, place: str | None) -> None:
    if place is None:
        os.close(number)
        return
    if place == "|":
        reader, handle = os.pipe()
        os.close(reader)
    elif number == 0:
        handle = os.open(place, os.O_RDONLY)
    else:
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(handle, number)
    os.close(handle)


def fork(line: bytes, own: Iterable[int]) -> int:
    """Start a call, without the descriptors that are this process's own; its process id."""
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for handle in own:
            os.close(handle)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = child(json.loads(line))
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    return pid


def load() -> None:
    """Do once what every call would do for itself: import the whole package but its server and what it imports late, make
    the commands out of their signatures, and their parameters' types.
    """
    inside = [one.name for one in pkgutil.walk_packages(batchrun.__path__, "batchrun.")]
    for name in [*OUTSIDE.split(), *inside]:
        if not name.startswith("batchrun.embedded.") and not name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed, an inner name of another version
                importlib.import_module(name)
    typer.main.get_command = functools.cache(typer.main.get_command)
    tree = typer.main.get_command(app)
    assert isinstance(tree, typer.core.TyperGroup)
    for name, command in tree.commands.items():
        command.make_context(name, [], resilient_parsing=True)


def main() -> None:
    load()
    gc.collect()
    gc.freeze()
    orders, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking)
    running: set[int] = set()
    lines = os.fdopen(orders, "rb", 0)
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                os.write(answers, b"%d %d\n" % (pid, os.waitstatus_to_exitcode(status)))
        if orders in ready:
            line = lines.readline()
            if not line:
                return
            pid = fork(line, (orders, answers, woken, waking))
            running.add(pid)
            os.write(answers, b"%d\n" % pid)


if __name__ == "__main__":
    main()
