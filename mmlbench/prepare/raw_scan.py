"""Look at a dataset's raw files without decoding any: which of its items are there, and what is wrong with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..decode.fault import Found
from .file_checks import scan
from .item_writer import ItemWriter
from .task import Item


class ScanDone(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a dataset's `prepare` where its raw files have been looked at."""


@dataclass
class ScanWriter(ItemWriter):
    """The cache writer of a preparation that ends before anything is decoded.

    Attributes:
        items: how many the dataset has; None where it is not prepared item by item.
        faults: those that show without decoding, one an item.
    """

    items: int | None = None
    faults: list[Found] = field(default_factory=list)

    def array(self, name: str, rows: int, dtype: str, scale: float = 1.0, offset: float = 0.0) -> np.memmap:
        """End a preparation that begins to write without having named its items.

        Raises:
            ScanDone: always.
        """
        raise ScanDone

    def own(self, raw: Path, items: Sequence[Item]) -> NoReturn:
        """Look at the files of all items that are not left out, and end the preparation.

        Raises:
            ScanDone: always.
        """
        there = [(item.id, item.files) for row, item in enumerate(items) if row not in self.left_out]
        self.items, self.faults = len(items), scan(raw, there)
        raise ScanDone
