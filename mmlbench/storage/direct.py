"""Rows of an array on disk, read past the page cache: where memory is short, to keep their pages costs too much.

To find room for a page, to map it and to take it back before it is wanted again costs more than to read it. Here the
kernel reads rows from the disk into memory of ours, many at a time; nobody waits for a single one.

These are asynchronous reads of Linux (io_setup(2), io_submit(2), io_getevents(2)) of a file opened with O_DIRECT. The
C library has no functions for them, so they are called by number. They can't be had everywhere: on another system or
processor, on a file system without such reads, in a container that forbids them. `open_rows` returns None then.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import platform
from collections import deque
from dataclasses import dataclass
from functools import cache
from types import TracebackType

import numpy as np

from .atomic import UNSUPPORTED

log = logging.getLogger("mmlbench")
#: What places, sizes and memory have to be a multiple of: no disk's sectors are larger.
BLOCK = 4096
#: Reads that the kernel has at a time, and the memory that is taken at once (a huge page of most processors).
AT_ONCE, MEMORY = 256, 2**21
#: What says that a file can't be read in this way here.
_NOT_HERE = (*UNSUPPORTED, errno.EPERM, errno.EAGAIN, errno.ENOMEM)
#: `struct iocb` and `struct io_event` of linux/aio_abi.h, as processors with the low byte first have them.
_COMMAND = np.dtype(
    [
        *[("tag", "<u8"), ("key", "<u4"), ("flags", "<i4"), ("what", "<u2"), ("priority", "<i2"), ("file", "<u4")],
        *[("memory", "<u8"), ("size", "<u8"), ("at", "<i8"), ("unused", "<u8"), ("more", "<u8")],
    ]
)
_EVENT = np.dtype([("tag", "<u8"), ("command", "<u8"), ("result", "<i8"), ("second", "<i8")])
#: Bits of a tag that number the row of a batch; those above number the batch.
_ROW_BITS = 32


@dataclass(frozen=True)
class Calls:
    """The numbers of the system calls on one kind of processor."""

    set_up: int
    destroy: int
    events: int
    submit: int


CALLS = {"x86_64": Calls(206, 207, 208, 209), "aarch64": Calls(0, 1, 4, 2)}


@dataclass
class _Batch:
    """The reads of some rows.

    Attributes:
        commands: of each row (n,). memory: (n, slot) bytes they go to. at: where each row begins there.
        needed, result: bytes that each read has to give, and gave, or the negative number of its fault.
        sent, left: how many commands the kernel got, and how many are not done.
    """

    commands: np.ndarray
    memory: np.ndarray
    at: np.ndarray
    needed: np.ndarray
    result: np.ndarray
    sent: int
    left: int


class Rows:
    """Rows of a file, by batches: `begin` one or several, then `take` them in the same order.

    Args:
        path: of the file. start: where the first row begins, in bytes. size: of a row, in bytes.

    Raises:
        OSError: it can't be read in this way, see `open_rows`.
    """

    def __init__(self, path: str, start: int, size: int) -> None:
        self.path, self.start, self.size = path, start, size
        #: Bytes that a row may touch, in whole blocks.
        self.slot = (size + 2 * (BLOCK - 1)) // BLOCK * BLOCK
        self._calls, self._free = CALLS[platform.machine()], list[np.ndarray]()
        self._batches: deque[_Batch] = deque()
        self._first, self._on_the_way, self._context = 0, 0, ctypes.c_ulong(0)
        self._events = np.empty(AT_ONCE, _EVENT)
        self._file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            _call(self._calls.set_up, ctypes.c_uint(AT_ONCE), ctypes.byref(self._context))
        except OSError:
            os.close(self._file)
            raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, and of the memory as soon as the kernel no longer writes to it."""
        if self._file >= 0:
            _call(self._calls.destroy, self._context)  # waits for reads that are on the way
            os.close(self._file)
            self._file = -1
            self._batches.clear()
            self._free.clear()

    def begin(self, places: np.ndarray) -> None:
        """Have the kernel begin to read rows, without waiting.

        Args:
            places: numbers of the rows, int64 (n,), in any order.
        """
        starts, count = self.start + places * self.size, len(places)
        first = starts // BLOCK * BLOCK
        memory = self._memory(count)
        commands = np.zeros(count, _COMMAND)
        commands["tag"] = ((self._first + len(self._batches)) << _ROW_BITS) + np.arange(count)
        commands["file"], commands["at"] = self._file, first
        commands["memory"] = memory.ctypes.data + np.arange(count) * self.slot
        commands["size"] = -(-(starts + self.size - first) // BLOCK) * BLOCK
        needed = starts + self.size - first
        self._batches.append(_Batch(commands, memory, starts - first, needed, np.zeros(count, np.int64), 0, count))
        self._send()

    def take(self, stored: np.dtype, wanted: np.dtype) -> np.ndarray:
        """Return the rows of the earliest batch that was begun and not taken, (n, values of a row); wait for them.

        Args:
            stored: type of the values in the file. wanted: type in which they are returned; to convert here, from
                what the disk has just written, spares a pass over the memory.

        Raises:
            OSError: a row can't be read.
        """
        batch = self._batches[0]
        while batch.left:
            self._collect(batch.left)
            self._send()
        self._batches.popleft()
        self._first += 1
        short = batch.result < batch.needed
        if short.any():
            result = int(batch.result[np.argmax(short)])
            code, what = (-result, os.strerror(-result)) if result < 0 else (errno.EIO, "the file is cut short")
            raise OSError(code, what, self.path)
        found = np.empty((len(batch.at), self.size // stored.itemsize), wanted)
        for row, at in enumerate(batch.at.tolist()):
            found[row] = batch.memory[row, at : at + self.size].view(stored)
        self._free.append(batch.memory)
        return found

    def _memory(self, count: int) -> np.ndarray:
        """Return memory (count, slot) for the rows of a batch: what an earlier one had, where it is large enough."""
        size = count * self.slot
        while self._free:
            memory = self._free.pop().base
            if memory is not None and memory.size >= size:
                return memory[:size].reshape(count, self.slot)
        pages = mmap.mmap(-1, -(-max(size, 1) // MEMORY) * MEMORY, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTFORK):
            try:
                pages.madvise(advice)
            except OSError:  # without it reading is slower, and as right
                continue
        return np.frombuffer(pages, np.uint8)[:size].reshape(count, self.slot)

    def _send(self) -> None:
        """Give the kernel as many of the commands as it takes at a time."""
        for batch in self._batches:
            while batch.sent < len(batch.at) and self._on_the_way < AT_ONCE:
                count = min(len(batch.at) - batch.sent, AT_ONCE - self._on_the_way)
                where = batch.commands.ctypes.data + np.arange(batch.sent, batch.sent + count) * _COMMAND.itemsize
                try:
                    sent = _call(self._calls.submit, self._context, ctypes.c_long(count), _pointer(where))
                except OSError as error:
                    if error.errno == errno.EAGAIN and self._on_the_way:
                        return  # once some of those on the way are done
                    raise
                batch.sent, self._on_the_way = batch.sent + sent, self._on_the_way + sent
            if batch.sent < len(batch.at):
                return

    def _collect(self, wanted: int) -> None:
        """Wait until some reads are done, and note what they gave."""
        least = ctypes.c_long(min(wanted, self._on_the_way))
        done = _call(
            self._calls.events,
            self._context,
            least,
            ctypes.c_long(AT_ONCE),
            _pointer(self._events),
            ctypes.c_void_p(),
        )
        events = self._events[:done]
        numbers, rows = events["tag"] >> _ROW_BITS, events["tag"] & (2**_ROW_BITS - 1)
        for number in np.unique(numbers).tolist():
            batch, own = self._batches[number - self._first], numbers == number
            batch.result[rows[own]] = events["result"][own]
            batch.left -= int(own.sum())
        self._on_the_way -= done


def open_rows(array: np.ndarray, size: int) -> Rows | None:
    """Return the rows of a mapped array as they are read past the page cache; None where that can't be had here.

    Args:
        array: of `mapped.read` or `mapped.read_private`. size: bytes of a row.

    Raises:
        OSError: the file itself can't be read.
    """
    if not isinstance(array, np.memmap) or array.filename is None or not array.size or not size:
        return None
    if platform.machine() not in CALLS or not hasattr(os, "O_DIRECT"):
        return None
    path, rows = str(array.filename), None
    try:
        rows = Rows(path, array.offset, size)
        rows.begin(np.zeros(1, np.int64))
        rows.take(array.dtype, array.dtype)
    except OSError as error:
        if rows is not None:
            rows.close()
        if error.errno not in _NOT_HERE:
            raise
        _say_once(path, error.strerror or str(error))
        return None
    return rows


@cache
def _say_once(path: str, why: str) -> None:
    """Tell that reading is slower than it could be."""
    log.info(f"{path} can't be read past the page cache here ({why}): reading it takes more processor time")


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _call(number: int, *words: object) -> int:
    """Make a system call; again where a signal came between.

    Raises:
        OSError: it failed.
    """
    while True:
        found = int(_library().syscall(ctypes.c_long(number), *words))
        if found >= 0:
            return found
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
