"""Standard output and standard error where they are closed, full, or can't show a letter."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
from typing import Any, TextIO

from ..errors import MmlbenchError


class OutputError(MmlbenchError):
    """Standard output takes nothing (exit code 1); a closed pipe is told by its exit code alone, as usual."""

    def __init__(self, error: OSError) -> None:
        self.quiet = error.errno == errno.EPIPE
        if self.quiet:
            self.exit_code = 128 + signal.SIGPIPE
        fixes = {errno.ENOSPC: "Free some space", errno.EDQUOT: "Free some space", errno.EBADF: "Leave it open"}
        what = "is closed" if error.errno == errno.EBADF else f"can't be written ({error.strerror})"
        super().__init__(f"standard output {what}", fixes.get(error.errno or 0, "Write it elsewhere"))


class _Output(io.FileIO):
    """Standard output whose faults are told from those of other files, and which takes all that it is given.

    The system may take a part only: of what does not fit into a pipe, before a signal, before a disk is full. A
    buffer writes the rest, but `python -u` has none, and what was left would be lost without a word.
    """

    def write(self, data: Any, /) -> int:
        """Write all bytes; return how many."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                taken = super().write(left)
            except OSError as error:
                raise OutputError(error) from error
            if taken is None:  # a pipe that was opened not to wait, and is full
                select.select([], [self], [])
                continue
            left = left[taken:]
        return size


def set_up() -> None:
    """Make the three standard streams usable, whatever the caller has done to them.

    A closed one would give its number to the next file that is opened, and what is written to it would go there. So
    each gets a file that takes nothing: standard output fails when it is written, standard error loses its lines.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    if sys.stdout is None or _is_plain(sys.stdout):
        old = sys.stdout
        raw = _Output(1, "w", closefd=False)
        unbuffered = old is not None and isinstance(old.buffer, io.FileIO)  # PYTHONUNBUFFERED, python -u
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(  # type: ignore[misc]
            raw if unbuffered else io.BufferedWriter(raw),
            encoding=old.encoding if old is not None else "utf-8",
            line_buffering=old is not None and bool(old.line_buffering),
            write_through=unbuffered,
        )
    for stream in (sys.stdout, sys.stderr):  # a letter that a terminal can't show becomes a question mark
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")


def _is_plain(stream: object) -> bool:
    """Whether a stream is the one that Python has opened on file 1, not what a test has put in its place."""
    if not isinstance(stream, io.TextIOWrapper) or stream is not sys.__stdout__:
        return False
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream.fileno() == 1 and not isinstance(getattr(stream.buffer, "raw", stream.buffer), _Output)
    return False


def flush() -> None:
    """Write what is left.

    Raises:
        OutputError: it can't be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def give_up(stream: TextIO | None) -> None:
    """Drop what a stream did not take, so that the end of the process does not try, and fail, once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)


def leave() -> None:
    """Let go of what standard error holds and can't write: Python would end with 120 for it, whatever was done."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        give_up(sys.stderr)
