"""When a training's state is saved, and by which thread: often, but never for more than a small part of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..storage.atomic import Through, whole
from . import checkpoint
from .stream import available_bytes, free_bytes, granted_bytes

#: Share of the training time that checkpoints may take.
SHARE = 0.05
#: Seconds from one checkpoint to the next at least, and seconds of work that a kill may cost at most.
SHORTEST_S, LONGEST_S = 10.0, 300.0
#: Share of the spare memory that a snapshot may take; the rest is for the training, and for whoever else is here.
MEMORY_SHARE = 0.5
#: How the thread that writes is called.
THREAD = "mmlbench-checkpoint"


def spare_bytes(facts: Path = Path("/proc/meminfo")) -> int:
    """Return the memory of the host that a snapshot could take; a job's or a container's limit counts.

    File pages that the kernel would drop first count as spare: checkpoints themselves leave many of them.
    """
    available = available_bytes(facts)
    return free_bytes(torch.device("cpu")) if available is None else min(available, granted_bytes())


class Checkpoints:
    """Saves the state of a training now and then; a context manager that waits for the writing in hand.

    A checkpoint is due when the time since the last one is `1 / SHARE` times what that one cost, but not before
    `SHORTEST_S`, and soon enough that a kill costs no more than `LONGEST_S` of work. The cost of a checkpoint is the
    time for which training stood still, and the processor time of the thread that wrote. The first one is due after
    `SHORTEST_S`.

    Where there is memory for a copy of what training changes, a thread of its own writes the copy while training goes
    on, one at a time. Else training waits for the writing.

    Args:
        path: of the checkpoint. through: puts a written file in place, whole.
        every: seconds between two, whatever they cost; None as said above.
        spare: tells the spare memory in bytes. clock: seconds, from any start. used: a thread's processor seconds.

    Attributes:
        stopped: seconds for which training stood still so far. written: checkpoints begun so far.
    """

    def __init__(
        self,
        path: Path,
        through: Through = whole,
        every: float | None = None,
        spare: Callable[[], int] = spare_bytes,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        self.path, self.through, self.every = path, through, every
        self.spare, self.clock, self.used = spare, clock, used
        self.saved_at = clock()
        self.interval = SHORTEST_S if every is None else every
        self.stopped, self.written = 0.0, 0
        self._last = 0.0  # for how long training stood still because of the last one
        self._hosted = WeakTensorKeyDictionary()
        self._writing: Future[tuple[float, float]] | None = None
        self._thread = ThreadPoolExecutor(1, THREAD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait for the writing in hand.

        Raises:
            DataError, LeaseLost: it failed, and no other error ended the training.
        """
        try:
            if error is None:
                self._settle()
        finally:
            self._thread.shutdown(wait=True)

    def due(self) -> bool:
        """Tell whether to save now.

        Raises:
            DataError, LeaseLost: what was written meanwhile did not come through.
        """
        if self._writing is not None and self._writing.done():
            self._settle()
        if self._writing is not None and self.every is None:
            return False
        return self.clock() - self.saved_at >= self.interval

    def save(self, tree: Any, stopping: bool = False) -> None:
        """Save a tree of plain values and tensors as it stands.

        Args:
            stopping: training ends here: the checkpoint is on disk when this returns.

        Raises:
            DataError: it, or the one before, can't be written. LeaseLost: the lease is not held any more.
        """
        began = self.clock()
        self._settle()
        packed = checkpoint.Packed(tree)
        tensors = None if stopping else self._snapshot(packed)
        if tensors is None:
            checkpoint.write(self.path, packed, packed.tensors, self.through)
        else:
            self._writing = self._thread.submit(self._write, packed, tensors)
        self.written += 1
        self.saved_at = self.clock()
        self._last = self.saved_at - began
        self.stopped += self._last
        self._plan(0.0, 0.0)

    def _snapshot(self, packed: checkpoint.Packed) -> list[Tensor] | None:
        """Return a copy of the tensors at this moment, None where memory is short."""
        if packed.to_copy > MEMORY_SHARE * self.spare():
            return None
        try:
            return checkpoint.snapshot(packed, self._hosted)
        except MemoryError:  # of a limit that is not a control group's
            return None

    def _write(self, packed: checkpoint.Packed, tensors: list[Tensor]) -> tuple[float, float]:
        """Write; return how long it took and the processor time of it."""
        began, used = self.clock(), self.used()
        checkpoint.write(self.path, packed, tensors, self.through)
        return self.clock() - began, self.used() - used

    def _settle(self) -> None:
        """Wait for the writing in hand, if there is one, and plan by what it took."""
        writing, self._writing = self._writing, None
        if writing is not None:
            self._plan(*writing.result())

    def _plan(self, seconds: float, used: float) -> None:
        """Set the time to the next checkpoint by what the last one took: training's own, and the writing thread's."""
        if self.every is None:
            latest = LONGEST_S - seconds  # while it was written the one before was all that there was
            self.interval = max(SHORTEST_S, min((self._last + used) / SHARE, latest))
