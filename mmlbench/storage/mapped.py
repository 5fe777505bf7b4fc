"""Arrays on disk as memory maps; on a file system that can't map them for sharing, the same bytes by other ways.

Some file systems (FUSE with direct I/O, 9p, some network ones) answer a shared map with ENODEV or EINVAL. What is
only read is then mapped privately, or read into memory; what is written goes row by row to the file (`RowFile`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .atomic import UNSUPPORTED

log = logging.getLogger("mmlbench")
#: What says that a file can't be mapped here.
NO_MAP = (*UNSUPPORTED, errno.ENODEV)
#: Bytes that go to the file at once.
_AT_ONCE = 2**26
#: Bytes that the kernel is asked for at once: of a longer stretch it may read the first part alone.
_ASKED_AT_ONCE = 2**17


def _load(path: Path, *modes: Literal["r", "c"]) -> np.ndarray:
    """Return an array of a .npy file by the first mode in which the file system can map it, else read into memory."""
    for mode in modes:
        try:
            return np.load(path, mmap_mode=mode, allow_pickle=False)
        except OSError as error:
            if error.errno not in NO_MAP:
                raise
    log.info(f"{path} can't be mapped into memory on this file system: it is read into memory")
    return np.load(path, allow_pickle=False)


def read(path: Path) -> np.ndarray:
    """Return an array of a .npy file to read from, without reading it if the file system can map it."""
    found = _load(path, "r", "c")
    found.flags.writeable = False
    return found


def read_private(path: Path) -> np.ndarray:
    """Return an array that could be written without changing the file, as PyTorch wants it."""
    return _load(path, "c")


def _map_of(array: np.ndarray) -> tuple[mmap.mmap, int] | None:
    """Return the map under an array and the place of its first byte there; None where it lies in memory."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and hasattr(array.base, "madvise"):
        return array.base, array.offset % mmap.ALLOCATIONGRANULARITY
    return None


def read_no_more_than_asked(array: np.ndarray, asked: bool) -> None:
    """Have the kernel read the pages of a mapped array that are touched or asked for; else, as by default, more."""
    found = _map_of(array)
    if found is not None:
        with contextlib.suppress(OSError):  # advice: without it reading is slower, and as right
            found[0].madvise(mmap.MADV_RANDOM if asked else mmap.MADV_NORMAL)


def in_memory(array: np.ndarray, places: np.ndarray, size: int) -> bool:
    """Tell whether the first bytes of some pieces of an array are in memory; False also where it can't be known.

    Args:
        places: numbers (n,) of the pieces, of `size` bytes each.
    """
    if _map_of(array) is None or not isinstance(array, np.memmap):
        return True
    try:
        file = os.open(str(array.filename), os.O_RDONLY)
    except OSError:
        return False
    try:
        byte = bytearray(1)
        return all(os.preadv(file, [byte], array.offset + at * size, os.RWF_NOWAIT) for at in places.tolist())
    except (OSError, AttributeError):  # it would have to wait; the file system or the system can't tell
        return False
    finally:
        os.close(file)


def ask(array: np.ndarray, places: np.ndarray, size: int) -> None:
    """Have the kernel begin to read pieces of a mapped array, without waiting; nothing for an array in memory.

    Args:
        places: numbers (n,) of the pieces, of `size` bytes each, in any order. What touches is read in one go.
    """
    found = _map_of(array)
    if found is None or not len(places):
        return
    pages, before = found
    at = np.unique(places) * size + before
    first, last = at // mmap.PAGESIZE, (at + size - 1) // mmap.PAGESIZE
    apart = np.flatnonzero(first[1:] > last[:-1] + 1) + 1
    starts, stops = first[np.r_[0, apart]] * mmap.PAGESIZE, (last[np.r_[apart - 1, len(at) - 1]] + 1) * mmap.PAGESIZE
    with contextlib.suppress(OSError):
        for start, stop in zip(starts.tolist(), np.minimum(stops, len(pages)).tolist(), strict=True):
            for begin in range(start, stop, _ASKED_AT_ONCE):
                pages.madvise(mmap.MADV_WILLNEED, begin, min(_ASKED_AT_ONCE, stop - begin))


def write(path: Path) -> Any:
    """Return the array of a .npy file such that what is written to it goes to the file.

    Raises:
        OSError, ValueError: no such file, or not one of this kind.
    """
    try:
        return np.load(path, mmap_mode="r+", allow_pickle=False)
    except OSError as error:
        if error.errno not in NO_MAP:
            raise
    return RowFile(path)


def create(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """Make a .npy file of zeros and return its array as `write` does; the room on the disk is taken at once."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)
    with path.open("r+b") as file, contextlib.suppress(AttributeError):
        try:  # a disk that is full later would kill the process on a mapped page
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
    return write(path)


class RowFile:
    """An array in a .npy file that is read and written by rows, as a memory map is used here: `a[k]`, `a[k] = value`.

    Other indices work too; those that are no row or range of rows read or write the whole.

    Attributes:
        shape, dtype, size: of the array. filename: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.filename = str(path)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, by_columns, self.dtype = reader(file)
            self._start = file.tell()
        if by_columns or not self.shape or self.dtype.hasobject:
            raise ValueError(f"{path} is no array of rows")
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))
        self._row = self.size // max(1, self.shape[0]) * self.dtype.itemsize
        self._file = os.open(path, os.O_RDWR)

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._file)

    def __len__(self) -> int:
        return int(self.shape[0])

    def _read(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        view, at = (
            memoryview(found.data).cast("B") if found.size else memoryview(b""),
            self._start + start * self._row,
        )
        done = 0
        while done < len(view):
            got = os.preadv(self._file, [view[done : done + _AT_ONCE]], at + done)
            if not got:
                raise OSError(errno.EIO, "the file is cut short", self.filename)
            done += got
        return found

    def _write(self, start: int, values: np.ndarray) -> None:
        data, at, done = memoryview(np.ascontiguousarray(values).data).cast("B"), self._start + start * self._row, 0
        while done < len(data):
            done += os.pwrite(self._file, data[done : done + _AT_ONCE], at + done)

    def _range(self, index: Any) -> tuple[int, int] | None:
        """Return the rows that an index means, None where it is none of this kind."""
        if isinstance(index, int | np.integer):
            row = int(index) + (len(self) if index < 0 else 0)
            if not 0 <= row < len(self):
                raise IndexError(f"row {index} of {len(self)}")
            return row, row + 1
        if index is Ellipsis:
            return 0, len(self)
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(len(self))
            return start, max(start, stop)
        return None

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self._range(index)
        if rows is None:
            whole: np.ndarray = self._read(0, len(self))[index]
            return whole
        found = self._read(*rows)
        return found[0] if isinstance(index, int | np.integer) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        first = index[0] if isinstance(index, tuple) and index else index
        rows = self._range(first) or (0, len(self))
        if not isinstance(index, tuple) and self._range(index) is not None:
            shape = (rows[1] - rows[0], *self.shape[1:])
            self._write(rows[0], np.broadcast_to(np.asarray(value, self.dtype), shape))
            return
        held = self._read(*rows)
        if isinstance(first, int | np.integer):
            held[(0, *index[1:])] = value
        elif isinstance(index, tuple) and self._range(first) is not None:
            held[(slice(None), *index[1:]) if first is not Ellipsis else index] = value
        else:
            held[index] = value
        self._write(rows[0], held)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._read(0, len(self)), dtype)

    def flush(self) -> None:
        """Have what was written on the disk."""
        os.fsync(self._file)
