"""`--part K/N`: each test is in one part, and always in the same; `.ci/run` takes them in turn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NAMES = [f"tests/a/test_b.py::test_{number}" for number in range(300)]


@pytest.fixture(scope="module")
def shared() -> ModuleType:
    """Return `tests/conftest.py` as a module of its own."""
    spec = importlib.util.spec_from_file_location("shared_conftest", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Chosen:
    """A pytest config of which one option counts."""

    def __init__(self, part: str) -> None:
        self.part, self.hook, self.left_out = part, self, list[object]()

    def getoption(self, name: str) -> str:
        return self.part

    def pytest_deselected(self, items: list[object]) -> None:
        self.left_out += items


class Item:
    """A test of which the name counts, and whether its file is slow as a whole."""

    def __init__(self, name: str, slow_file: bool = False) -> None:
        self.nodeid, self.own_markers = name, [pytest.mark.slow.mark] * slow_file
        file = name.partition("::")[0]
        self.parent = Item(file, slow_file) if file != name else None


def test_every_test_is_in_one_part(shared: ModuleType) -> None:
    taken: list[str] = []
    for part in ("1/3", "2/3", "3/3"):
        items, config = [Item(name) for name in NAMES], Chosen(part)
        shared.pytest_collection_modifyitems(config, items)
        assert 60 < len(items) < 140 and len(items) + len(config.left_out) == len(NAMES)
        taken += [item.nodeid for item in items]
    assert sorted(taken) == sorted(NAMES)


@pytest.mark.parametrize("slow_file", [False, True])
def test_the_tests_of_a_slow_file_stay_together(shared: ModuleType, slow_file: bool) -> None:
    counts = []
    for part in ("1/3", "2/3", "3/3"):
        items = [Item(name, slow_file) for name in NAMES]
        shared.pytest_collection_modifyitems(Chosen(part), items)
        counts.append(len(items))
    assert (sorted(counts) == [0, 0, len(NAMES)]) == slow_file


def test_without_the_option_all_are_taken(shared: ModuleType) -> None:
    items, config = [Item(name) for name in NAMES], Chosen("1/1")
    shared.pytest_collection_modifyitems(config, items)
    assert len(items) == len(NAMES) and config.left_out == []


@pytest.mark.parametrize("part", ["", "2", "0/3", "4/3", "a/b", "1/0"])
def test_no_part_at_all_is_refused(part: str, shared: ModuleType) -> None:
    with pytest.raises(pytest.UsageError):
        shared.pytest_collection_modifyitems(Chosen(part), [])
