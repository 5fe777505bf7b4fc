"""What is prepared item by item: the items, what is stored of each, and what a worker is given and gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..decode.fault import Fault, FaultKind, Found
from ..errors import RunError
from ..storage import mapped
from ..storage.atomic import NotPlainError
from ..storage.hashing import digest, file_digest, spot_digest

#: Larger raw files are known by their size and by evenly spaced blocks.
WHOLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Item:
    """One row's worth of raw files.

    Args:
        id: as in lists and reports; unique. files: below the raw folder; checked before any is decoded.
        about: whatever `decode` needs to know beside them, as plain data.
    """

    id: str
    files: tuple[str, ...]
    about: tuple[Any, ...] = ()

    def made_of(self) -> str:
        """Return a digest of what decides beside the files' content; not of their names, which a fix may change."""
        return digest([self.id, self.about])[:16]


@dataclass(frozen=True)
class Stored:
    """How a modality is kept: stored type, and real value = stored * scale + offset."""

    dtype: str
    scale: float = 1.0
    offset: float = 0.0


#: Pixels 0..255 as real values 0..1.
PIXELS = Stored("uint8", 1 / 255)


#: (raw folder, item) -> modality -> its own views, (n, *shape), 1 <= n <= views, in the stored type.
Decode = Callable[[Path, Item], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Done:
    """A line of the journal: row, digest of its bytes in all arrays, own views, files' (size, digest), `made_of`."""

    row: int
    sum: str
    valid: dict[str, int]
    raw: list[tuple[int, str]]
    of: str

    def plain(self) -> list[Any]:
        """Return it as JSON has it."""
        return [self.row, self.sum, self.valid, self.raw, self.of]

    @classmethod
    def read(cls, line: Sequence[Any]) -> Done:
        """Return what `plain` said.

        Raises:
            ValueError, TypeError: it is nothing of that kind.
        """
        row, total, valid, raw, of = line
        return cls(row, total, valid, [(size, name) for size, name in raw], of)


@dataclass
class Task:
    """What a worker needs to decode items: the same in this process and in others."""

    raw: Path
    folder: Path
    decode: Decode
    views: dict[str, int]
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened maps out."""
        return self.__dict__ | {"_arrays": {}}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the unfinished cache, opened for writing."""
        if not self._arrays:
            self._arrays = {m: mapped.write(self.folder / f"{m}.npy") for m in self.views}
        return self._arrays

    def row_sum(self, row: int) -> str:
        """Return the digest of a row's bytes in all arrays."""
        found = hashlib.blake2b(digest_size=16)
        for array in self.arrays().values():
            found.update(np.ascontiguousarray(array[row]).data)
        return found.hexdigest()

    def signature(self, files: Sequence[str]) -> list[tuple[int, str]]:
        """Return (size, digest) of raw files."""
        return [signature(self.raw / name) for name in files]

    def same_sizes(self, item: Item, done: Done) -> bool:
        """Tell whether an item would be made as it was, from raw files of the same sizes."""
        try:
            sizes = [(self.raw / name).stat().st_size for name in item.files]
        except OSError:
            return False
        return item.made_of() == done.of and sizes == [size for size, _ in done.raw]

    def do(self, row: int, item: Item) -> Done | Found:
        """Decode an item into its row; a file that can't be used is returned as such."""
        try:
            made = self.decode(self.raw, item)
            return Done(row, *self._store(row, item, made), self.signature(item.files), item.made_of())
        except Fault as fault:
            return Found(item.id, _below(self.raw, fault.file), fault.reason, fault.kind)
        except NotPlainError as error:
            return Found(item.id, ", ".join(item.files[:1]), error.reason, FaultKind.NOT_THERE)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error)  # without the path, whose length hides the rest
            return Found(item.id, ", ".join(item.files[:1]), f"can't be read ({reason})")

    def _store(self, row: int, item: Item, made: dict[str, np.ndarray]) -> tuple[str, dict[str, int]]:
        valid = {}
        for name, array in self.arrays().items():
            views = made[name]
            if not 1 <= len(views) <= self.views[name] or views.shape[1:] != array.shape[2:]:
                what = f"{item.id}: {name} came out as {views.shape}, not as views of {array.shape[2:]}"
                raise RunError(what, "Fix the dataset's decode")
            valid[name] = len(views)
            array[row] = views[np.arange(self.views[name]) % len(views)]
        return self.row_sum(row), valid


def signature(path: Path) -> tuple[int, str]:
    """Return (size, digest) of a raw file."""
    size = path.stat().st_size
    return size, (file_digest(path) if size <= WHOLE_BYTES else spot_digest(path))[:32]


def _below(raw: Path, file: str) -> str:
    path = Path(file)
    return str(path.relative_to(raw)) if path.is_relative_to(raw) else file
