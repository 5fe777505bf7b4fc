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

from ..decode.fault import Found
from ..errors import MmlbenchError, RunError, fault

if TYPE_CHECKING:
    from .task import Done, Item, Task


#: What a pipe raises whose other end is gone.
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)


def _serve(pipe: Connection, task: Task) -> None:
    """Decode what comes until the pipe closes, which it does when the parent ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and closes the pipe
    with contextlib.suppress(*_GONE):
        while True:
            row, item = pipe.recv()
            try:
                pipe.send(task.do(row, item))
            except MmlbenchError as error:
                pipe.send(error)
            except Exception as error:
                what, fix = fault(error, [sys.modules[type(task.decode.__self__).__module__].__file__ or ""]
                                   if hasattr(task.decode, "__self__") else ())  # fmt: skip
                pipe.send(RunError(f"{item.id} can't be decoded: {what}", fix))


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
    """Return the fault of the item at which a worker's process died though nothing else ran.

    Raises:
        RunError: the process was killed from outside, which says nothing about the item.
    """
    worker.process.join(5)
    code = worker.process.exitcode
    assert worker.hand is not None
    item = worker.hand[1]
    if code == -signal.SIGKILL:
        raise RunError(
            f"{item.id}: its worker was killed twice (SIGKILL), the second time with no other beside it",
            "Most likely memory ran out: give more of it. What is decoded is kept; the same command goes on",
        )
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"
    return Found(item.id, ", ".join(item.files[:1]), f"makes the decoder crash ({how})")


def _alone(task: Task, work: tuple[int, Item]) -> Done | Found:
    """Decode an item at which a worker died once more, in a process of its own with no other beside it."""
    worker = _Worker(task)
    try:
        worker.give(work)
        return _received(worker)
    except _GONE:
        return _crash(worker)
    finally:
        worker.end()


def _received(worker: _Worker) -> Done | Found:
    """Return what a worker sends; raise what its dataset's code raised."""
    result = worker.pipe.recv()
    if isinstance(result, Exception):
        raise result
    return result


def _handed(worker: _Worker, work: tuple[int, Item], task: Task) -> _Worker:
    """Give an item to a worker; where it died idle, to a new one, which is returned."""
    try:
        worker.give(work)
    except _GONE:
        worker.end()
        worker = _Worker(task)
        worker.give(work)
    return worker


def run_workers(task: Task, waiting: list[tuple[int, Item]], workers: int) -> Iterator[Done | Found]:
    """Yield the results of all items as they come, from several processes.

    An item at which a worker dies is tried once more when all others are done: the worker next to it may have taken
    the memory.

    Raises:
        RunError: the dataset's own code failed; a worker was killed twice at one item.
    """
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ |= dict.fromkeys(threads, "1")  # many processes of one thread each; the parent has its libraries
    again: list[tuple[int, Item]] = []
    try:
        yield from _together(task, deque(waiting), workers, again)
        for work in again:
            yield _alone(task, work)
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _together(
    task: Task, queue: deque[tuple[int, Item]], workers: int, again: list[tuple[int, Item]]
) -> Iterator[Done | Found]:
    """Yield results as they come; what a worker died at goes to `again`."""
    members: list[_Worker] = []
    try:
        while queue and len(members) < workers:
            members.append(_handed(_Worker(task), queue.popleft(), task))
        while busy := {one.pipe: place for place, one in enumerate(members) if one.hand is not None}:
            for pipe in wait(list(busy)):
                place = busy[pipe]  # type: ignore[index]
                worker = members[place]
                result = None
                try:
                    result = _received(worker)
                except _GONE:
                    assert worker.hand is not None
                    again.append(worker.hand)
                    worker.end()
                    worker = members[place] = _Worker(task)
                worker.hand = None
                if result is not None:
                    yield result
                if queue:
                    members[place] = _handed(worker, queue.popleft(), task)
    finally:
        for worker in members:
            worker.end()
