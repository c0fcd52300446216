"""`python -m batchrun.embedded`: the embedded endpoint as a child process (child.py is its parent).

Prints one JSON line, `{"base_url": "http://127.0.0.1:PORT/v1"}`, when it listens, and ends when its stdin does. It
must never print anything else to stdout.
"""

import argparse
import os
import signal
import sys

import msgspec

from batchrun.embedded.behaviour import Behaviour


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # first of all: loading the server takes a while
    parser = argparse.ArgumentParser(prog="python -m batchrun.embedded", description=__doc__)
    parser.add_argument("--settings", default="{}", help="Behaviour as JSON; - reads it from the first line of stdin")
    parser.add_argument("--ledger", help="file that gets one JSON line for each request received and answered")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    text = sys.stdin.readline() if options.settings == "-" else options.settings
    try:
        behaviour = msgspec.json.decode(text, type=Behaviour)
    except msgspec.MsgspecError as error:
        parser.error(f"--settings: {error}")

    from batchrun.embedded.server import run_server  # late: SIGINT is to be ignored, and settings checked, before

    run_server(behaviour, options.host, options.port, options.ledger, on_ready=_announce, stop_on_stdin_eof=True)


def _announce(base_url: str) -> None:
    os.write(1, msgspec.json.encode({"base_url": base_url}) + b"\n")


if __name__ == "__main__":
    main()
