"""Targets of data that somebody has already: which task they are of, and what a written dataset says of it.

Targets are an array `label` (n,), or (n, L) of 0 and 1, or the cells of a column. `mmlbench new dataset --from` makes
the task of them, once; `prepare` of the written dataset states them as that task has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, brief, nearest
from ..storage.words import plural
from ..task import Classification, Multilabel, Regression, Task
from ..task.base import Label

#: Between the labels of a sample, in a cell.
BETWEEN = ";"
#: What a number is called where nobody has named it.
TARGET = "label"


def _texts(label: np.ndarray) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else str(one) for one in label.tolist()]


def _words(cell: str) -> list[str]:
    """Return the names of a sample's labels."""
    return [word.strip() for word in cell.split(BETWEEN) if word.strip()]


def _numbers(label: np.ndarray) -> np.ndarray | None:
    """Return targets as numbers, None where one is none."""
    try:
        return label.astype(np.float64)
    except ValueError:
        return None


def guess(label: np.ndarray) -> str:
    """Return which task targets can only be of; 'classification' where nothing says otherwise.

    Numbers of which some have a fraction are of a regression, and rows (n, L) of a multilabel task.
    """
    if label.ndim == 2:
        return Multilabel.name
    numbers = None if label.dtype.kind in "biu" else _numbers(label)
    if numbers is None:
        return Classification.name
    known = numbers[np.isfinite(numbers)]
    return Regression.name if (known != np.floor(known)).any() else Classification.name


def make_task(place: Path, label: np.ndarray, names: Sequence[str] | None, told: str) -> Task:
    """Return the task of some targets.

    Args:
        place: of the data, for messages.
        label: the targets, (n,) or (n, L).
        names: of classes or labels, where the data name them.
        told: the task, '' where the targets are to tell.

    Raises:
        ConfigError: they can't be of the task that was told.
        DataError: a target is none that the task can have; names are missing.
    """
    kind = told or guess(label)
    cells = label.ndim == 1 and (kind != Multilabel.name or label.dtype.kind in "US")
    if not cells and not (label.ndim == 2 and kind == Multilabel.name and label.dtype.kind in "biuf"):
        what = f"{place}: label is {label.dtype} {list(label.shape)}, and {kind} takes another shape"
        raise ConfigError(what, "Give (n,) for a class or a number, (n, L) of 0 and 1 for labels")
    if kind == Regression.name:
        if names is not None:
            raise ConfigError(f"{place}: a number has no class_names", "Leave them out, or name the task by --task")
        found: Task = Regression(TARGET)
    elif kind == Multilabel.name:
        found = Multilabel(_label_names(place, label, names))
    else:
        found = Classification(_class_names(place, label, names))
    if found.faults():
        raise DataError(
            f"{place}: {found.faults()[0]}", "Correct `label` or `class_names`, or name the task by --task"
        )
    state(place, label, found)
    return found


def _class_names(place: Path, label: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes: sorted where targets name them."""
    if label.dtype.kind in "US":
        return tuple(sorted(set(_texts(label)))) if names is None else tuple(names)
    count = int(_whole(place, label).max()) + 1
    if names is None:
        return tuple(f"class {k}" for k in range(count))
    if len(names) < count:
        raise DataError(f"{place}: there are {count} classes and {len(names)} class_names", "Name them all")
    return tuple(names)


def _label_names(place: Path, label: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the labels."""
    if label.ndim == 1:
        found = sorted({word for cell in _texts(label) for word in _words(cell)})
        return tuple(found) if names is None else tuple(names)
    if names is None:
        return tuple(f"label {k}" for k in range(label.shape[1]))
    if len(names) != label.shape[1]:
        what = f"{place}: label has {plural(label.shape[1], 'column')}, and there are {len(names)} class_names"
        raise DataError(what, "Name each column once")
    return tuple(names)


def _whole(place: Path, label: np.ndarray) -> np.ndarray:
    """Return class numbers as float64."""
    numbers = label.astype(np.float64)
    wrong = ~((numbers >= 0) & (numbers == np.floor(numbers)) & np.isfinite(numbers))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = f"{place}: the label of row {row} is {label[row]}"
        raise DataError(
            what, "Labels are names of classes, or whole numbers from 0; of numbers say --task regression"
        )
    return numbers


def state(place: Path, label: np.ndarray, task: Task) -> list[Label]:
    """Return each sample's target as the task has it.

    Raises:
        DataError: one is none that the task can have, with its row and the fix.
    """
    found: list[Label]
    if isinstance(task, Regression):
        found = list(_stated_numbers(place, label))
    elif isinstance(task, Multilabel):
        found = list(_stated_labels(place, label, task))
    elif label.dtype.kind in "US":
        found = [_place(place, row, name, task) for row, name in enumerate(_texts(label))]
    else:
        found = list(map(int, _whole(place, label)))
    for row, one in enumerate(found):
        fault = task.label_fault(one)
        if fault:
            fix = "Correct it, or what `task` in the dataset's file says"
            if one == ():
                fix = "Give it one, or let the dataset's file say Multilabel(class_names, may_be_empty=True)"
            raise DataError(f"{place}: the label of row {row} {fault}", fix)
    return found


def _place(place: Path, row: int, name: str, task: Task) -> int:
    """Return the number of a class or label."""
    if name not in task.names:
        what = f"{place}: the label of row {row} is {brief(name)}, which the dataset does not declare"
        raise DataError(what, nearest(name, task.names))
    return task.names.index(name)


def _stated_numbers(place: Path, label: np.ndarray) -> list[float]:
    numbers = _numbers(label)
    if numbers is not None:
        return list(map(float, numbers))
    row, text = next((row, text) for row, text in enumerate(_texts(label)) if _numbers(np.array([text])) is None)
    raise DataError(
        f"{place}: the label of row {row} is {brief(text)}, no number", "Write a number, or another --task"
    )


def _stated_labels(place: Path, label: np.ndarray, task: Multilabel) -> list[tuple[int, ...]]:
    if label.ndim == 1:
        cells = enumerate(map(_words, _texts(label)))
        return [tuple(_place(place, row, name, task) for name in names) for row, names in cells]
    if label.shape[1] != task.outputs:
        what = f"{place}: label has {plural(label.shape[1], 'column')}, declared are {plural(task.outputs, 'label')}"
        raise DataError(what, "Correct class_names in the dataset's file, or bring the arrays that it was made from")
    wrong = ~((label == 0) | (label == 1)).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = f"{place}: the label of row {row} is {brief(label[row].tolist())}"
        raise DataError(what, "Write 0 or 1 of each label")
    return [tuple(np.flatnonzero(row).tolist()) for row in label]


def written(task: Task) -> dict[str, str]:
    """Return the words with which the templates of a dataset and of its test say its task."""
    count, names = {"outputs": str(task.outputs)}, f"    class_names = {task.names!r}\n"
    if isinstance(task, Regression):
        line = f"task = Regression({task.target!r})  # unit=, low= and high= where it has a unit and a range"
        return {**count, "task": f"    {line}\n", "task_class": ", Regression", "targets": "a number each"}
    if isinstance(task, Multilabel):
        lines = f"{names}    task = Multilabel(class_names)\n"
        return {**count, "task": lines, "task_class": ", Multilabel", "targets": plural(task.outputs, "label")}
    return {**count, "task": names, "task_class": "", "targets": plural(task.outputs, "class")}
