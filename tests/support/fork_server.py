"""The loop of a warm process: it forks for each question that comes in by a line of JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve(be: Callable[..., None]) -> None:
    """Answer each question with the number of the child, then with how it ended.

    Args:
        be: is the child, with the parts of the question; it does not return.
    """
    while line := sys.stdin.readline():
        question: list[Any] = json.loads(line)
        child = os.fork()
        if not child:
            be(*question)
        _answer(child)
        _answer(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
