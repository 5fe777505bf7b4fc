"""The command line. Each command imports what it needs when it is called, so that `list` needs no torch."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path

from .. import paths, pythonpath
from ..errors import MmlbenchError, fault
from ..store import storage_error
from .parser import make_parser

log = logging.getLogger("mmlbench")


def say(line: str) -> None:
    """Tell people one line of progress, on standard error."""
    log.info(line)


class _Stderr(logging.Handler):
    """Writes to what is the standard error at that moment; a process may put another in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def _log_to_stderr() -> None:
    """Show progress; other packages' loggers stay as they are."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 1 a run or a check failed; 2 the request or the data were wrong; 75 another process has taken the
        work over and is not done; 128 + n stopped by signal n.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    paths.set_data_folders(getattr(arguments, name) for name in ("results", "cache") if hasattr(arguments, name))
    _log_to_stderr()
    if line := pythonpath.warning():  # before anything of it is imported
        sys.stderr.write(f"mmlbench: {line}. {pythonpath.MEND}\n")
    try:
        code = int(arguments.command(arguments) or 0)
        sys.stdout.flush()
        return code
    except MmlbenchError as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"mmlbench: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("mmlbench: stopped; type the same command to go on\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            sys.stderr.write(f"mmlbench: {storage_error(error, Path(str(error.filename)))}\n")
            return 2
        sys.stderr.write(f"mmlbench: unexpected {'. '.join(fault(error))}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
