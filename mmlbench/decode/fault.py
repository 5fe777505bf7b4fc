"""What is wrong with one raw file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class Fault(Exception):  # noqa: N818 (it is told, not raised to the user)
    """One raw file can't be used.

    Args:
        file: which. reason: why, as a predicate: 'is empty', 'has no audio stream'.
    """

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(str(file), reason)
        self.file, self.reason = str(file), reason


@dataclass(frozen=True)
class Found:
    """A fault of an item: its id, the file below the raw folder, the reason."""

    id: str
    file: str
    reason: str
