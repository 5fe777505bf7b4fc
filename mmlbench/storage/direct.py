"""Rows of an array on disk, read past the page cache: where memory is short, to keep their pages costs too much.

To find room for a page, to map it and to take it back before it is wanted again costs more than to read it. Here the
kernel reads rows from the disk into memory of ours, many at a time; nobody waits for a single one.

These are asynchronous reads of Linux (io_setup(2), io_submit(2), io_getevents(2)) of a file opened with O_DIRECT. The
C library has no functions for them, so they are called by number. They can't be had everywhere: on another system or
processor, on a file system without such reads, in a container that forbids them. `open_rows` returns None then.
"""

from __future__ import annotations

import contextlib
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
#: Reads that the kernel has at a time; bytes that rows on the way take, and those that are read together.
AT_ONCE, ON_THE_WAY, TOGETHER = 256, 2**24, 2**23
#: Memory is taken in such pieces: a huge page of most processors.
HUGE_PAGE = 2**21
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
#: Bits of a tag that number the row of a piece; those above number the piece.
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
class _Piece:
    """Some rows of a batch that are read together.

    Attributes:
        first: where the block begins in which each row begins (n,), and at: where the row begins in it.
        needed, result: bytes that each read has to give, and gave, or the negative number of its fault.
        memory: (n, slot) bytes they go to, and commands (n,), once they are on the way. sent, left: how many commands
            the kernel got, and how many are not done.
    """

    first: np.ndarray
    at: np.ndarray
    needed: np.ndarray
    result: np.ndarray
    left: int
    sent: int = 0
    memory: np.ndarray | None = None
    commands: np.ndarray | None = None


class Rows:
    """Rows of a file, by batches: `begin` one or several, then `take` them in the same order.

    Rows on the way take at most `ON_THE_WAY` bytes of memory, or a row where that is more, however large a batch is.

    Args:
        path: of the file. start: where the first row begins, in bytes. size: of a row, in bytes.

    Raises:
        OSError: it can't be read in this way, see `open_rows`.
    """

    def __init__(self, path: str, start: int, size: int) -> None:
        self.path, self.start, self.size = path, start, size
        #: Bytes that a row may touch, in whole blocks, and how many rows are read together.
        self.slot = (size + 2 * (BLOCK - 1)) // BLOCK * BLOCK
        self.together = max(1, min(TOGETHER // self.slot, AT_ONCE // 4))
        self._calls, self._free = CALLS[platform.machine()], list[np.ndarray]()
        self._batches, self._unsent, self._sent = deque[list[_Piece]](), deque[_Piece](), dict[int, _Piece]()
        self._number, self._on_the_way, self._held, self._context = 0, 0, 0, ctypes.c_ulong(0)
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
            for held in (self._batches, self._unsent, self._sent, self._free):
                held.clear()

    def begin(self, places: np.ndarray) -> None:
        """Have the kernel begin to read rows, without waiting.

        Args:
            places: numbers of the rows, int64 (n,), in any order.
        """
        starts, batch = self.start + places * self.size, []
        at = starts % BLOCK
        first, needed, result = starts - at, at + self.size, np.zeros(len(places), np.int64)
        for k in range(0, len(places), self.together):
            own = slice(k, k + self.together)
            batch.append(_Piece(first[own], at[own], needed[own], result[own], len(at[own])))
        self._batches.append(batch)
        self._unsent.extend(batch)
        self._send()

    def take(self, stored: np.dtype, wanted: np.dtype) -> np.ndarray:
        """Return the rows of the earliest batch that was begun and not taken, (n, values of a row); wait for them.

        Args:
            stored: type of the values in the file. wanted: type in which they are returned; to convert here, from
                what the disk has just written, spares a pass over the memory.

        Raises:
            OSError: a row can't be read.
        """
        batch, done = self._batches.popleft(), 0
        found = np.empty((sum(len(piece.at) for piece in batch), self.size // stored.itemsize), wanted)
        for piece in batch:
            while piece.left:
                self._send()
                self._collect(piece.left)
            self._check(piece)
            assert piece.memory is not None
            values, at = piece.memory.view(stored), piece.at // stored.itemsize
            if (at == at[0]).all():  # as with rows of whole blocks
                found[done : done + len(at)] = values[:, at[0] : at[0] + found.shape[1]]
            else:
                for row, start in enumerate(at.tolist()):
                    found[done + row] = values[row, start : start + found.shape[1]]
            done += len(at)
            self._free.append(piece.memory)
            self._held -= 1
            self._send()
        return found

    def _check(self, piece: _Piece) -> None:
        """Refuse rows that the disk did not give, or not whole."""
        short = piece.result < piece.needed
        if short.any():
            result = int(piece.result[np.argmax(short)])
            code, what = (-result, os.strerror(-result)) if result < 0 else (errno.EIO, "the file is cut short")
            raise OSError(code, what, self.path)

    def _memory(self, count: int) -> np.ndarray:
        """Return memory (count, slot) for rows: what earlier ones had, or new."""
        if self._free:
            whole = self._free.pop().base
        else:
            size = -(-self.together * self.slot // HUGE_PAGE) * HUGE_PAGE
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTFORK):
                with contextlib.suppress(OSError):  # without it reading is slower, and as right
                    pages.madvise(advice)
            whole = np.frombuffer(pages, np.uint8)
        assert whole is not None
        return whole[: count * self.slot].reshape(count, self.slot)

    def _begun(self, piece: _Piece) -> np.ndarray:
        """Return the commands of a piece, the memory for its rows taken."""
        if piece.commands is None:
            count = len(piece.at)
            piece.memory = self._memory(count)
            piece.commands = np.zeros(count, _COMMAND)
            piece.commands["tag"] = (self._number << _ROW_BITS) + np.arange(count)
            piece.commands["file"], piece.commands["at"] = self._file, piece.first
            piece.commands["memory"] = piece.memory.ctypes.data + np.arange(count) * self.slot
            piece.commands["size"] = -(-piece.needed // BLOCK) * BLOCK
            self._sent[self._number] = piece
            self._number, self._held = self._number + 1, self._held + 1
        return piece.commands

    def _send(self) -> None:
        """Give the kernel as many of the commands as it takes, and as there is memory for."""
        most = max(1, ON_THE_WAY // (self.together * self.slot))
        while self._unsent and (self._unsent[0].commands is not None or self._held < most):
            piece = self._unsent[0]
            commands = self._begun(piece)
            count = min(len(commands) - piece.sent, AT_ONCE - self._on_the_way)
            if not count:
                return
            where = commands.ctypes.data + np.arange(piece.sent, piece.sent + count) * _COMMAND.itemsize
            try:
                sent = _call(self._calls.submit, self._context, ctypes.c_long(count), _pointer(where))
            except OSError as error:
                if error.errno == errno.EAGAIN and self._on_the_way:
                    return  # once some of those on the way are done
                raise
            piece.sent, self._on_the_way = piece.sent + sent, self._on_the_way + sent
            if piece.sent == len(commands):
                self._unsent.popleft()

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
            piece, own = self._sent[number], numbers == number
            piece.result[rows[own]] = events["result"][own]
            piece.left -= int(own.sum())
            if not piece.left:
                del self._sent[number]
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
