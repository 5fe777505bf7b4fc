"""Calls made ahead by threads: in order, with what they raised at its turn, and only so many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from mmlbench.storage.ahead import ahead


def test_results_come_in_the_order_of_the_calls() -> None:
    second_done = threading.Event()

    def first() -> str:
        assert second_done.wait(10), "nothing else runs beside it"
        return "first"

    def second() -> str:
        second_done.set()
        return "second"

    assert list(ahead([first, second], 2, 2)) == ["first", "second"]


@pytest.mark.parametrize("most", [0, 1, 5])
def test_what_a_call_raised_comes_at_its_turn(most: int) -> None:
    def fail() -> int:
        raise ValueError("third")

    found = list[int]()
    works: list[Callable[[], int]] = [lambda: 1, lambda: 2, fail, lambda: 4]
    with pytest.raises(ValueError, match="third"):
        for value in ahead(works, 2, most):
            found.append(value)
    assert found == [1, 2]


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 2), (3, 1)])
def test_only_so_many_calls_are_asked_for_before_the_first_is_taken(threads: int, most: int) -> None:
    asked = list[int]()

    def works():
        for number in range(20):
            asked.append(number)
            yield partial(int, number)

    with closing(ahead(works(), threads, most)) as found:
        for taken, value in enumerate(found):
            assert value == taken and len(asked) <= taken + 1 + most
    assert asked == list(range(20))


def test_closed_early_it_begins_nothing_more() -> None:
    begun, go = list[int](), threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        assert number == 0 or go.wait(10)
        return number

    found = ahead((partial(work, number) for number in range(50)), 1, 10)
    assert next(found) == 0
    go.set()
    found.close()
    assert len(begun) <= 12


def test_nothing_to_call_gives_nothing() -> None:
    assert list(ahead([], 2, 2)) == []
