"""The cache writer of what is prepared item by item: the steps in which shards, their merge and a scan differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..dataset import CacheWriter, Dataset
from ..errors import DataError
from .task import Done, Item, Stored, Task


def no_items(dataset: Dataset) -> DataError:
    """Return what to say of a dataset that has no items to share out."""
    what = f"{dataset.name} is not prepared item by item, so it has no shards"
    return DataError(what, "Prepare it without --shard and --shards")


@dataclass
class ItemWriter(CacheWriter):
    """The cache writer of a preparation in one process; `items.fill` calls its hooks from `own` on in their order.

    Attributes:
        asked: whether the dataset has named its items.
        made_by: package -> version of what makes rows beside `items.LIBRARIES`, such as a text model's.
        archive: that the raw files are unpacked from; None where they were a folder.
    """

    #: Whether a dataset that writes without naming its items is refused.
    needs_items: ClassVar[bool] = False
    #: Whether a kept row counts where its raw files have the same sizes, for another process has read them.
    sizes_are_enough: ClassVar[bool] = False
    asked: bool = False
    made_by: Mapping[str, str] = field(default_factory=dict)
    archive: Path | None = None

    def array(self, name: str, rows: int, dtype: str, scale: float = 1.0, offset: float = 0.0) -> np.memmap:
        """Return an array.

        Raises:
            DataError: items are needed, and none are named: a dataset without would do all of its work in each shard.
        """
        if self.needs_items and not self.asked:
            raise no_items(self.dataset)
        return super().array(name, rows, dtype, scale, offset)

    def own(self, raw: Path, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items that this process makes rows of, and let `left_out` count these."""
        self.asked = True
        return items

    def rows(self, task: Task, items: Sequence[Item], stored: dict[str, Stored], wanted: set[int]) -> Iterable[Done]:
        """Yield what the journal says of wanted rows that are made already, once they are in the task's arrays."""
        return ()

    def finish(self, items: Sequence[Item], done: dict[int, Done], stored: dict[str, Stored]) -> None:
        """Do what follows when all rows are made; the dataset's `prepare` then goes on."""

    def report_path(self) -> Path:
        """Return where the report of faults lies: beside the cache that would have been made."""
        return self.folder.with_name(f"{self.title}.faults.csv")
