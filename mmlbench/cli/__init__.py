"""The command line. Each command imports what it needs when it is called, so that `list` needs no torch."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from pathlib import Path

from ..errors import MmlbenchError, fault
from ..storage import paths
from ..storage.atomic import storage_error
from ..storage.cache_places import shared_folders
from ..system import arithmetic, interrupt, pythonpath
from ..system.handover import hand_over
from ..system.progress import log, logger
from . import streams
from .parser import make_parser
from .streams import OutputError


def write_error(line: str) -> None:
    """Write a line to standard error; where that is closed or its disk is full the line is lost, the work is not."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _Stderr(logging.Handler):
    """Writes to what is the standard error at that moment; a process may put another in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        write_error(self.format(record))


def _log_to_stderr() -> None:
    """Show progress; other packages' loggers stay as they are."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 1 a run or a check failed; 2 the request or the data were wrong; 75 another process has taken the
        work over and is not done; 128 + n stopped by signal n, a closed pipe (SIGPIPE) included.
    """
    code = 0
    try:
        interrupt.ready()
        streams.set_up()
        if argv is None and interrupt.is_program():  # a program on standard input can't be read twice
            arithmetic.may_start_anew([sys.executable, *sys.orig_argv[1:]])
        code = _run(argv)
        streams.flush()
        return code
    except OutputError as error:
        streams.give_up(sys.stdout)
        if not error.quiet:
            write_error(f"mmlbench: {error}")
        return code or error.exit_code
    except KeyboardInterrupt:
        interrupt.guard()
        write_error("mmlbench: stopped; type the same command to go on")
        with contextlib.suppress(OutputError):
            streams.flush()
        streams.give_up(sys.stdout)
        return interrupt.STOPPED
    finally:
        streams.leave()
        interrupt.guard()


def _run(argv: list[str] | None) -> int:
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit:
        streams.flush()  # argparse leaves with what --help has printed still in hand
        raise
    paths.set_data_folders(getattr(arguments, name) for name in ("results", "cache") if hasattr(arguments, name))
    _log_to_stderr()
    if argv is None and (code := hand_over(sys.argv[1:])) is not None:
        return code
    if line := pythonpath.warning():  # before anything of it is imported
        write_error(f"mmlbench: {line}. {pythonpath.FIX}")
    try:
        if hasattr(arguments, "cache"):
            shared_folders()  # a folder that is not there is told before anything starts
        return int(arguments.command(arguments) or 0)
    except OutputError:
        raise
    except MmlbenchError as error:
        if arguments.debug:
            raise
        write_error(f"mmlbench: {error}")
        return error.exit_code
    except (Exception, SystemExit) as error:  # a command returns its code: what exits is a plug-in
        if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C while a class was made, which Python 3.11 wraps
            raise error.__cause__ from None
        if arguments.debug and not isinstance(error, SystemExit):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            write_error(f"mmlbench: {storage_error(error, Path(str(error.filename)))}")
            return 2
        write_error(f"mmlbench: unexpected {'. '.join(fault(error))}")
        return 1


__all__ = ["log", "main"]

if __name__ == "__main__":
    sys.exit(main())
