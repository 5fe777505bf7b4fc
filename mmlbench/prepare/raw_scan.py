"""Look at a dataset's raw files without decoding any: which of its items are there, and what is wrong with others."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset import CacheWriter, Dataset, Options
from ..decode.fault import Found
from ..storage.temporaries import temporary_folder


class ScanDone(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a dataset's `prepare` where its raw files have been looked at."""


@dataclass
class ScanWriter(CacheWriter):
    """The cache writer of a preparation that ends before anything is decoded.

    Attributes:
        items: how many the dataset has. faults: those that show without decoding, one an item.
    """

    items: int = 0
    faults: list[Found] = field(default_factory=list)


@dataclass(frozen=True)
class Scan:
    """What lies in a folder of raw files: number of items, and the faults of those that can't be used."""

    items: int
    faults: tuple[Found, ...]


def scan_raw(dataset: Dataset, raw: Path, options: Options) -> Scan | None:
    """Look at the raw files of a dataset; None where it is not prepared item by item.

    Args:
        raw: a folder; an archive would be unpacked. options: as of its preparation; nothing that is left out counts.

    Raises:
        DataError: the lists can't be read, an id to leave out is unknown.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-scan") as folder:
        out = ScanWriter(folder, dataset, options)
        try:
            dataset.prepare(raw, out)
        except ScanDone:
            return Scan(out.items, tuple(out.faults))
    return None
