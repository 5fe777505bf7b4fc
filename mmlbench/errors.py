"""Errors that a user sees: one line that names the thing, and the mend."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class MmlbenchError(Exception):
    """A fault with its mend; the command line prints it as one line.

    Args:
        what: what is wrong, naming the file, key or run.
        mend: what to do about it, as an imperative sentence.
    """

    exit_code = 1

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        what, mend = " ".join(self.what.split()), " ".join(self.mend.split())
        return f"{what.rstrip('.')}. {mend[:1].upper()}{mend[1:]}" if mend else what


class ConfigError(MmlbenchError):
    """The request itself is wrong: an unknown name, key, type or range (exit code 2)."""

    exit_code = 2


class DataError(MmlbenchError):
    """Raw files, a prepared cache or a results folder are missing, corrupt or changed (exit code 2)."""

    exit_code = 2


class RunError(MmlbenchError):
    """A run started and could not be finished (exit code 1)."""


def runs_error(what: str, runs: list[str], limit: int = 10) -> DataError:
    """Return the error that lists runs that can't be used; `runs` name each with its command in brackets."""
    more = f"; and {len(runs) - limit} more" if len(runs) > limit else ""
    listed = "; ".join(runs[:limit])
    return DataError(f"{what}: {listed}{more}", "Type the snakemake command again, or the commands in brackets")


def fault(error: BaseException, files: Iterable[str] = ()) -> tuple[str, str]:
    """Return an exception in one line, with the last line of the plug-in `files` that it passed; and a mend."""
    what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    known = set(files)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in known]
    if places:
        return (
            f"{what} ({places[-1].filename}, line {places[-1].lineno})",
            "Mend the file; `mmlbench train` with --debug shows more",
        )
    return what, "Run it again with --debug to see where"


def nearest(name: object, known: Iterable[str], limit: int = 3) -> str:
    """Return 'did you mean a, b?' for the known names nearest to `name`, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=limit, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}" if known else "none is known"
