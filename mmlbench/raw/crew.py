"""Worker processes that decode: each with a pipe of its own, gone with their parent, replaced where one crashes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from ..errors import MmlbenchError, RunError, fault
from .faults import Found

if TYPE_CHECKING:
    from .work import Done, Item, Task


def _serve(pipe: Connection, task: Task) -> None:
    """Decode what comes until the pipe closes, which it does when the parent ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and closes the pipe
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            row, item = pipe.recv()
            try:
                pipe.send(task.do(row, item))
            except MmlbenchError as error:
                pipe.send(error)
            except Exception as error:
                what, mend = fault(error, [sys.modules[type(task.decode.__self__).__module__].__file__ or ""]
                                   if hasattr(task.decode, "__self__") else ())  # fmt: skip
                pipe.send(RunError(f"{item.id} can't be decoded: {what}", mend))


class _Worker:
    """One process and what it has in hand."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self.pipe, other = context.Pipe()
        self.process: Any = context.Process(target=_serve, args=(other, task), daemon=True)
        self.process.start()
        other.close()
        self.hand: tuple[int, Item] | None = None

    def give(self, work: tuple[int, Item]) -> None:
        """Send an item."""
        self.hand = work
        self.pipe.send(work)

    def end(self) -> None:
        """Stop the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(5)


def _crash(worker: _Worker) -> Found:
    """Return the fault of the item at which a worker's process died."""
    worker.process.join(5)
    code = worker.process.exitcode
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"
    assert worker.hand is not None
    item = worker.hand[1]
    return Found(item.id, ", ".join(item.files[:1]), f"makes the decoder crash ({how})")


def crew(task: Task, waiting: list[tuple[int, Item]], workers: int) -> Iterator[Done | Found]:
    """Yield the results of all items as they come, from several processes.

    Raises:
        RunError: the dataset's own code failed.
    """
    queue = deque(waiting)
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ |= dict.fromkeys(threads, "1")  # many processes of one thread each; the parent has its libraries
    members: list[_Worker] = []
    try:
        while queue and len(members) < workers:
            members.append(_Worker(task))
            members[-1].give(queue.popleft())
        while busy := {one.pipe: one for one in members if one.hand is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    result = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    result = _crash(worker)
                    members.remove(worker)
                    worker.end()
                    worker = _Worker(task)
                    members.append(worker)
                worker.hand = None
                if isinstance(result, Exception):
                    raise result
                yield result
                if queue:
                    worker.give(queue.popleft())
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        for worker in members:
            worker.end()
