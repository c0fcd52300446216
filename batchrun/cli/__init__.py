"""The command line: one file a command; the only place that prints results, exits and reads the environment."""

import sys


def main() -> None:
    """Entry point. Errors become one or two lines and an exit code; `--debug` anywhere shows the traceback."""
    from batchrun.cli.app import app
    from batchrun.errors import BatchrunError

    debug = "--debug" in sys.argv[1:]
    args = [arg for arg in sys.argv[1:] if arg != "--debug"]
    try:
        code = app(args, prog_name="batchrun", standalone_mode=True)
    except BatchrunError as error:
        if debug:
            raise
        print(f"batchrun: {_printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # the reader of our output went away, as `head` does
        sys.stderr.close()
        code = 141
    except Exception as error:
        if debug:
            raise
        while isinstance(error, ExceptionGroup):  # of tasks: what went wrong in the first of them is what matters
            error = error.exceptions[0]
        print(f"batchrun: {type(error).__name__}: {_printable(str(error))}", file=sys.stderr)
        print(
            "batchrun: this is a fault of batchrun itself; run again with --debug and report what it prints",
            file=sys.stderr,
        )
        code = 70
    sys.exit(code or 0)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n " else f"\\x{ord(char):02x}" for char in text)
