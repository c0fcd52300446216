"""The command line: one file a command; the only place that prints results, exits and reads the environment."""

import sys
import traceback
from collections.abc import Sequence


def main() -> None:
    """Entry point. Errors become one or two lines and an exit code; `--debug` anywhere shows the traceback besides."""
    from batchrun.cli.lean import lean
    from batchrun.cli.output import OutputError, shelter, stdout_matters_less

    shelter()
    debug = "--debug" in sys.argv[1:]
    if debug:
        import logging

        logging.basicConfig(format="batchrun: %(message)s")
        logging.getLogger("batchrun").setLevel(logging.DEBUG)
    args = [arg for arg in sys.argv[1:] if arg != "--debug"]
    try:
        with lean():
            code = _called(args, debug=debug)
        sys.stdout.flush()
    except OutputError as error:
        stdout_matters_less()  # it has been said; what is left in buffers is lost too
        if not error.is_quiet:
            print(f"batchrun: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


def _called(args: Sequence[str], *, debug: bool) -> int:
    """The exit code of one call. What can't be written to stdout is an OutputError."""
    from batchrun.cli.app import app
    from batchrun.cli.flags import refuse_parameters, with_kinds
    from batchrun.cli.output import OutputError
    from batchrun.errors import BatchrunError
    from batchrun.report.words import printable

    try:
        refuse_parameters(args)
        app(with_kinds(args), prog_name="batchrun", standalone_mode=True)
    except OutputError:
        raise
    except BatchrunError as error:
        if debug:
            traceback.print_exc()
        print(f"batchrun: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except Exception as error:  # noqa: BLE001 - the last stop: every other fault is a fault of batchrun
        if debug:
            traceback.print_exc()
        while isinstance(error, ExceptionGroup):  # of tasks: what went wrong in the first of them is what matters
            error = error.exceptions[0]
        print(f"batchrun: {type(error).__name__}: {printable(str(error))}", file=sys.stderr)
        print(
            "batchrun: this is a fault of batchrun itself; run again with --debug and report what it prints",
            file=sys.stderr,
        )
        return 70
    return 0
