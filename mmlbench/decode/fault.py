"""What is wrong with one raw file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class FaultKind(StrEnum):
    """What a fault is, where something hangs on it."""

    OTHER = "other"
    NOT_THERE = "not_there"  # it lies with the user's copy: missing, empty, a folder, a web page
    POINTER = "pointer"  # of Git LFS, in place of the file: with the user's copy, too
    CELL = "cell"  # of a table, in place of a file: it is to be corrected, not fetched
    NO_AUDIO = "no_audio"
    SILENT = "silent"


class Fault(Exception):  # noqa: N818 (it is told, not raised to the user)
    """One raw file can't be used.

    Args:
        file: which.
        what: is wrong, as a predicate: 'is empty', 'has no audio stream'.
        kind: what the program decides by.
        fix: what to do about it, where that is known.
    """

    def __init__(self, file: Path | str, what: str, kind: FaultKind = FaultKind.OTHER, fix: str = "") -> None:
        super().__init__(str(file), what, kind, fix)
        self.file, self.what, self.kind, self.fix = str(file), what, kind, fix

    @property
    def reason(self) -> str:
        """What is wrong, and the fix."""
        return f"{self.what}: {self.fix}" if self.fix else self.what


@dataclass(frozen=True)
class Found:
    """A fault of an item: its id, the file below the raw folder, the reason in words, and its kind."""

    id: str
    file: str
    reason: str
    kind: FaultKind = FaultKind.OTHER
