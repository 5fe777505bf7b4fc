"""Rows that a killed preparation has decoded: what is looked at before one of them is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmlbench.prepare import task as prepare_task
from mmlbench.prepare.items import _still
from mmlbench.prepare.task import Done, Item, Task

ITEM = Item("a", ("a.bin",))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Return the task of one item, whose row is as it was decoded."""
    for name in ("raw", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "raw" / "a.bin").write_bytes(b"1234")
    np.save(tmp_path / "cache" / "visual.npy", np.zeros((1, 1, 2), np.uint8))
    return Task(tmp_path / "raw", tmp_path / "cache", lambda raw, item: {}, {"visual": 1})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the raw files of which a digest is taken from now on."""
    found: list[Path] = []
    signature = prepare_task.signature
    monkeypatch.setattr(prepare_task, "signature", lambda path: found.append(path) or signature(path))
    return found


def done(task: Task) -> Done:
    """Return what the journal has of the item."""
    return Done(0, task.row_sum(0), {"visual": 1}, task.signature(ITEM.files), ITEM.made_of())


def test_a_row_and_a_file_as_they_were_are_kept(task: Task, read: list[Path]) -> None:
    kept = done(task)
    read.clear()
    assert _still(task, kept, [ITEM], False) and len(read) == 1
    assert _still(task, kept, [ITEM], True) and len(read) == 1, "sizes alone"


def test_a_file_of_another_content_is_decoded_again_and_of_another_size_without_reading_it(
    task: Task, read: list[Path]
) -> None:
    kept = done(task)
    read.clear()
    (task.raw / "a.bin").write_bytes(b"4321")
    assert not _still(task, kept, [ITEM], False) and len(read) == 1
    assert _still(task, kept, [ITEM], True)
    (task.raw / "a.bin").write_bytes(b"12345")
    assert not _still(task, kept, [ITEM], False) and len(read) == 1
    assert not _still(task, kept, [ITEM], True)
    (task.raw / "a.bin").unlink()
    assert not _still(task, kept, [ITEM], False) and len(read) == 1


def test_a_row_that_changed_is_decoded_again_without_reading_its_files(task: Task, read: list[Path]) -> None:
    kept = done(task)
    read.clear()
    task.arrays()["visual"][0] = 7
    assert not _still(task, kept, [ITEM], False) and not read


def test_a_row_that_the_items_do_not_have_or_that_is_made_of_something_else_is_not_kept(task: Task) -> None:
    kept = done(task)
    assert not _still(task, kept, [], False)
    assert not _still(task, kept, [Item("a", ("a.bin",), (1,))], False)
