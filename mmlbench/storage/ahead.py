"""Results of slow calls, such as reading files, made ahead by threads and taken in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(works: Iterable[Callable[[], T]], threads: int, most: int) -> Generator[T, None, None]:
    """Yield the results of some calls in their order; close it early, and what was not begun is never called.

    Args:
        threads: how many calls run side by side. most: how many results at most wait to be taken.

    Raises:
        What a call raised, at its turn.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for work in works:
                waiting.append(pool.submit(work))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
