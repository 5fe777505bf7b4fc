"""Rows of an array on disk, read past the page cache.

`train/stream.py` has arrays read so that memory can't hold: there it costs more processor time to find room for a
page, to map it and to take it back than to read the row anew. The kernel reads rows from the disk into memory of
ours, many at a time; nobody waits for a single one.

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
#: What offsets in the file, sizes and addresses have to be a multiple of: no disk's sectors are larger.
BLOCK = 4096
#: Reads that the kernel has at a time.
AT_ONCE = 256
#: The memory of rows that are read together, a piece, is a multiple of it: a huge page of most processors.
HUGE_PAGE = 2**21
#: Bytes of rows that are read together.
TOGETHER = 2**23
#: Bytes of memory that pieces take which were begun and not taken: three of 64 rows of 60 KiB.
ON_THE_WAY = 9 * HUGE_PAGE
#: What says that a file can't be read in this way here. EPERM: a container forbids it. EAGAIN: the system's limit
#: (aio-max-nr) is reached.
_NOT_HERE = (*UNSUPPORTED, errno.EPERM, errno.EAGAIN, errno.ENOMEM)
#: `struct iocb` and `struct io_event` of linux/aio_abi.h, as processors with the low byte first have them. There the
#: fields are data, key, rw_flags, lio_opcode, reqprio, fildes, buf, nbytes, offset, reserved2, and flags with resfd.
#: A `what` of 0 is IOCB_CMD_PREAD.
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
        block: the offset in the file of the block in which each row begins (n,). skip: its bytes before the row.
        needed: bytes that each read has to give. result: those that it gave, or its negative errno.
        sent, left: how many commands the kernel got, and how many are not done.
        memory: (m, slot) bytes, of which the first n rows are used. commands: (n,). None until they are prepared.
    """

    block: np.ndarray
    skip: np.ndarray
    needed: np.ndarray
    result: np.ndarray
    left: int
    sent: int = 0
    memory: np.ndarray | None = None
    commands: np.ndarray | None = None


class Rows:
    """Rows of a file, by batches: `begin` one or several, then `take` them in the same order.

    What was begun and not taken holds at most `ON_THE_WAY` bytes of memory, or one piece where that is more, however
    large a batch is.

    Args:
        path: of the file. start: where the first row begins, in bytes; a .npy file has its data at a multiple of 64,
            so that each row begins at a whole value. size: of a row, in bytes.

    Raises:
        OSError: it can't be read in this way, see `open_rows`.
    """

    def __init__(self, path: str, start: int, size: int) -> None:
        self.path, self.start, self.size = path, start, size
        #: Bytes that a row may touch, in whole blocks.
        self.slot = (size + 2 * (BLOCK - 1)) // BLOCK * BLOCK
        #: Rows of a piece: four pieces at least fill the kernel's queue.
        self.together = max(1, min(TOGETHER // self.slot, AT_ONCE // 4))
        #: Bytes of memory of a piece, and how many pieces may have memory.
        self._piece = -(-self.together * self.slot // HUGE_PAGE) * HUGE_PAGE
        self._most = max(1, ON_THE_WAY // self._piece)
        self._calls = CALLS[platform.machine()]
        #: Memory that is not in use.
        self._free = list[np.ndarray]()
        #: Batches that were not taken, and their pieces of which the kernel lacks commands.
        self._batches, self._unsent = deque[list[_Piece]](), deque[_Piece]()
        #: Number -> piece with commands that are not done, and the next number.
        self._by_number, self._number = dict[int, _Piece](), 0
        #: Pieces that have memory, and commands that the kernel has.
        self._held, self._at_kernel = 0, 0
        self._context, self._events = ctypes.c_ulong(0), np.empty(AT_ONCE, _EVENT)
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
            for held in (self._batches, self._unsent, self._by_number, self._free):
                held.clear()

    def begin(self, places: np.ndarray) -> None:
        """Have the kernel begin to read rows, without waiting.

        Args:
            places: numbers of the rows, int64 (n,), in any order.
        """
        starts, batch = self.start + places * self.size, []
        skip = starts % BLOCK
        block, needed, result = starts - skip, skip + self.size, np.zeros(len(places), np.int64)
        for k in range(0, len(places), self.together):
            own = slice(k, k + self.together)
            batch.append(_Piece(block[own], skip[own], needed[own], result[own], len(skip[own])))
        self._batches.append(batch)
        self._unsent.extend(batch)
        self._send()

    def take(self, stored: np.dtype, wanted: np.dtype) -> np.ndarray:
        """Return the rows of the earliest batch that was begun and not taken, (n, values of a row); wait for them.

        Args:
            stored: type of the values in the file, whose size divides `BLOCK`. wanted: type in which they are
                returned; to convert here, from what the disk has just written, spares a pass over the memory.

        Raises:
            OSError: a row can't be read; after that only `close` may be called.
        """
        batch, done = self._batches.popleft(), 0
        found = np.empty((sum(len(piece.skip) for piece in batch), self.size // stored.itemsize), wanted)
        for piece in batch:
            while piece.left:
                self._send()
                self._collect(piece.left)
            self._check(piece)
            assert piece.memory is not None
            values, skip = piece.memory.view(stored), piece.skip // stored.itemsize
            if (skip == skip[0]).all():  # as with rows of whole blocks
                found[done : done + len(skip)] = values[: len(skip), skip[0] : skip[0] + found.shape[1]]
            else:
                for row, start in enumerate(skip.tolist()):
                    found[done + row] = values[row, start : start + found.shape[1]]
            done += len(skip)
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

    def _memory(self) -> np.ndarray:
        """Return memory (together, slot) for a piece: what an earlier one had, or new."""
        if self._free:
            return self._free.pop()
        pages = mmap.mmap(-1, self._piece, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTFORK):
            with contextlib.suppress(OSError):  # without it reading is slower, and as right
                pages.madvise(advice)
        return np.frombuffer(pages, np.uint8)[: self.together * self.slot].reshape(self.together, self.slot)

    def _prepare(self, piece: _Piece) -> np.ndarray:
        """Give a piece memory and commands; return these."""
        count = len(piece.skip)
        piece.memory = self._memory()
        piece.commands = np.zeros(count, _COMMAND)
        piece.commands["tag"] = (self._number << _ROW_BITS) + np.arange(count)
        piece.commands["file"], piece.commands["at"] = self._file, piece.block
        piece.commands["memory"] = piece.memory.ctypes.data + np.arange(count) * self.slot
        piece.commands["size"] = -(-piece.needed // BLOCK) * BLOCK
        self._by_number[self._number] = piece
        self._number, self._held = self._number + 1, self._held + 1
        return piece.commands

    def _send(self) -> None:
        """Give the kernel as many of the commands as it takes, and as there is memory for."""
        while self._unsent:
            piece = self._unsent[0]
            commands = piece.commands
            if commands is None:
                if self._held >= self._most:
                    return
                commands = self._prepare(piece)
            count = min(len(commands) - piece.sent, AT_ONCE - self._at_kernel)
            if not count:
                return
            # io_submit(2) takes an array of pointers to commands
            where = commands.ctypes.data + np.arange(piece.sent, piece.sent + count) * _COMMAND.itemsize
            try:
                sent = _call(self._calls.submit, self._context, ctypes.c_long(count), _pointer(where))
            except OSError as error:
                if error.errno == errno.EAGAIN and self._at_kernel:
                    return  # once some of those that it has are done
                raise
            piece.sent, self._at_kernel = piece.sent + sent, self._at_kernel + sent
            if piece.sent == len(commands):
                self._unsent.popleft()

    def _collect(self, wanted: int) -> None:
        """Wait until some reads are done, and note what they gave."""
        least = ctypes.c_long(min(wanted, self._at_kernel))
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
            piece, own = self._by_number[number], numbers == number
            piece.result[rows[own]] = events["result"][own]
            piece.left -= int(own.sum())
            if not piece.left:
                del self._by_number[number]
        self._at_kernel -= done


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
        rows.begin(np.zeros(1, np.int64))  # on trial: some file systems open a file so, and refuse to read it
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
    """Tell, once for a file and a reason, that rows go through the page cache."""
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
