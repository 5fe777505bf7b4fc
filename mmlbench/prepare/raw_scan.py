"""Look at a dataset's raw files without decoding any: which of its items are there, and what is wrong with others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..dataset import CacheWriter
from ..decode.fault import Found


class ScanDone(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a dataset's `prepare` where its raw files have been looked at."""


@dataclass
class ScanWriter(CacheWriter):
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
