"""Ctrl-C while the program is still being imported: it ends with exit code 130, without a word.

Python raises KeyboardInterrupt between any two instructions, so that until `cli.main` can catch it a user would see a
traceback from the middle of an import. `import mmlbench` calls `guard` before it imports anything else. It does
nothing in a program that is not mmlbench: what imports the package keeps its own signal handlers.
"""

from __future__ import annotations

import _signal as signal  # `signal` itself imports enum first: milliseconds in which nothing is guarded
import os
import sys

#: 128 + SIGINT, as a shell shows it.
STOPPED = 130
#: Marks the command line of a child process as one of mmlbench's own.
CHILD = "--mmlbench-child"


def is_program() -> bool:
    """Whether this process is `mmlbench`, `python -m mmlbench`, or a child that imports plug-ins for it."""
    words = sys.orig_argv[1:]
    if CHILD in words:
        return True
    while words:
        word = words.pop(0)
        if word == "-m":
            return bool(words) and words[0].partition(".")[0] == "mmlbench"
        if word == "-c":
            return False
        if word in ("-W", "-X"):
            words = words[1:]
        elif not word.startswith("-"):
            return os.path.basename(word) == "mmlbench"  # noqa: PTH119 (pathlib takes longer than all of this)
    return False


def _leave(number: int, frame: object) -> None:
    os._exit(STOPPED)


def guard() -> None:
    """End at once at Ctrl-C: before anything was begun, or when nothing but the exit code is left to say."""
    if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def ready() -> None:
    """Raise KeyboardInterrupt at Ctrl-C from here on, for `cli.main` to catch."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
