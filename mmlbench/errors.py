"""Errors that a user sees: one line that names the thing, and the fix.

Here is what they have in common. The words of an error stand where it is raised.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import traceback
import unicodedata
from collections.abc import Iterable
from typing import Any

#: Letters of a message, and of one value in it, that are shown; the reason stands in front, so it stays.
LONGEST, LONGEST_VALUE = 2000, 80
#: Categories of Unicode that a terminal obeys instead of showing: control, format (bidi), surrogate, separators.
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


class _Brief(reprlib.Repr):
    """repr() that looks at a few elements only, so that its time is bounded too."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, LONGEST_VALUE, LONGEST_VALUE, 40
        self.maxlist = self.maxdict = self.maxtuple = self.maxset = 8

    def repr_int(self, value: int, level: int) -> str:
        """Return an integer; one of thousands of digits can't be printed at all."""
        return super().repr_int(value, level) if abs(value) < 10**60 else "a number of more than 60 digits"


def brief(value: Any) -> str:
    """Return repr(value) in at most `LONGEST_VALUE` letters, for a message."""
    return shorten(visible(_Brief().repr(value)), LONGEST_VALUE)


def visible(text: str) -> str:
    """Return a text in one line without what a terminal obeys: escape sequences, control and bidi characters."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = " ".join(_ESCAPE.sub("", text).split())
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _OBEYED else c for c in text)


def shorten(text: str, most: int) -> str:
    """Return a text whose middle is left out where it is longer than `most` letters."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 5]} ... {text[-end:]}"


class MmlbenchError(Exception):
    """A fault with its fix; the command line prints it as one line.

    The line is bounded and holds nothing that a terminal obeys, whatever names and values went into it.

    Args:
        what: what is wrong, naming the file, key or run.
        fix: what to do about it, as an imperative sentence.
    """

    exit_code = 1
    longest = LONGEST

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = shorten(visible(what), self.longest), shorten(visible(fix), self.longest)
        super().__init__(self.what)

    def __str__(self) -> str:
        what, fix = self.what, self.fix
        return f"{what.rstrip('.')}. {fix[:1].upper()}{fix[1:]}" if fix else what


class ConfigError(MmlbenchError):
    """The request itself is wrong: an unknown name, key, type or range (exit code 2)."""

    exit_code = 2


class UnknownPluginError(ConfigError):
    """No method, dataset or encoder of that name is known."""


class DataError(MmlbenchError):
    """Raw files, a prepared cache or a results folder are missing, corrupt or changed (exit code 2)."""

    exit_code = 2


class RunError(MmlbenchError):
    """A run started and could not be finished (exit code 1)."""


class LeaseLost(MmlbenchError):  # noqa: N818 (what happened, as Stopped)
    """Another process took over what this one was working on, while it stood still (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75


class RunsError(DataError):
    """Runs that can't be used, listed."""

    longest = 4 * LONGEST


def runs_error(what: str, runs: list[str], limit: int = 10) -> RunsError:
    """Return the error that lists runs that can't be used; `runs` name each with its command in brackets."""
    more = f"; and {len(runs) - limit} more" if len(runs) > limit else ""
    listed = "; ".join(shorten(run, 600) for run in runs[:limit])
    return RunsError(f"{what}: {listed}{more}", "Type the snakemake command again, or the commands in brackets")


def fault(error: BaseException, files: Iterable[str] = ()) -> tuple[str, str]:
    """Return an exception in one line, with the last line of the plug-in `files` that it passed; and a fix."""
    what = shorten(visible(f"{type(error).__name__}: {error}"), LONGEST).rstrip(": ")
    known = set(files)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in known]
    if places:
        return (
            f"{what} ({places[-1].filename}, line {places[-1].lineno})",
            "Fix the file; `mmlbench train` with --debug shows more",
        )
    return what, "Run it again with --debug to see where"


def nearest(name: object, known: Iterable[str], limit: int = 3, all_too: bool = False) -> str:
    """Return 'did you mean a, b?' for the known names nearest to `name`, else the list of known names.

    Args:
        all_too: whether the list follows the question too, where it is short.
    """
    known = sorted(known)
    close = difflib.get_close_matches(
        name[:100] if isinstance(name, str) else brief(name), known, n=limit, cutoff=0.5
    )
    if close:
        return f"did you mean {' or '.join(close)}?" + (f" Known: {', '.join(known)}" if all_too else "")
    return f"known: {', '.join(known)}" if known else "none is known"
