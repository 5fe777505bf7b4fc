"""Targets of data that somebody has already: which task they are of, and what a written dataset says of it.

Targets are an array (n,), or (n, L) of 0 and 1, or the cells of a column. `mmlbench new dataset --from` makes
the task of them, once; `prepare` of the written dataset states them as that task has it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, brief, nearest
from ..registry.describe import modality_name_faults
from ..storage.words import plural
from ..task import Classification, Multilabel, Regression, Task
from ..task.base import Label

#: What to do about a target that is NaN or infinite.
NO_NUMBER = "Fill it in, or drop the sample"
#: Between the labels of a sample, in a cell.
BETWEEN = ";"
#: Names of targets and of groups where nobody has named them.
LABEL, GROUP = "label", "group"
#: The range of a number: its low and its high end.
Ends = tuple[float, float]


def check_names(label: str, group: str, others: Collection[str]) -> None:
    """Refuse names of targets and groups that are taken.

    Args:
        others: names with another meaning.

    Raises:
        ConfigError: naming the option.
    """
    for option, name in (("--label", label), ("--group", group)):
        if name in others:
            raise ConfigError(f"{option} {name}: {name!r} means something else", "Name another, or rename it")
    if label == group:
        raise ConfigError(f"--label and --group both name {label!r}", "Name two")


def check_there(place: Path, noun: str, names: Collection[str], label: str, group: str) -> None:
    """Refuse data without targets, parts, or the groups that somebody named; `noun` is 'array' or 'column'.

    Raises:
        DataError: naming what is missing, and the nearest that is there.
    """
    named = [name for name, usual in ((label, LABEL), (group, GROUP)) if name != usual]
    for name in [name for name in (label, "part", *named) if name not in names]:
        what = f"{place} has no {noun} {name!r}"
        if name in named:
            raise DataError(what, nearest(name, names))
        more = ", or say which one is: --label NAME" if name == LABEL else ""
        raise DataError(what, f"Add it, one entry a sample{more}; there are: {', '.join(names) or 'none'}")


def refuse_names(place: Path, noun: str, names: Collection[str]) -> None:
    """Refuse arrays or columns whose names no modality can have.

    Raises:
        DataError: with the first.
    """
    for fault in modality_name_faults(names):
        raise DataError(f"{place}: {fault}", f"Rename the {noun}, or leave it out")


def written_names(label: str, group: str, has_group: bool) -> dict[str, str]:
    """Return the words with which the templates say how targets and groups are called."""
    told = [("label", label, LABEL), ("group", group, GROUP)]
    return {
        "named": "".join(f", {key}={json.dumps(name)}" for key, name, usual in told if name != usual),
        "group": f", group={json.dumps(group)}" if has_group else "",
    }


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


def _check_cells(place: Path, label: np.ndarray, told: str) -> None:
    """Refuse cells that are empty, and cells of which most are numbers and one is none: a typing error, no class.

    Raises:
        DataError: with the first row of either.
    """
    texts = _texts(label)
    empty = next((row for row, text in enumerate(texts) if not text.strip()), None)
    if empty is not None and told != Multilabel.name:
        raise DataError(f"{place}: the label of row {empty} is empty", "Fill it in, or leave the sample out")
    if told:
        return
    odd = [row for row, text in enumerate(texts) if _numbers(np.array([text])) is None]
    if 0 < len(odd) < len(texts) / 2:
        what = f"{place}: the label of row {odd[0]} is {brief(texts[odd[0]])}, and most labels are numbers"
        raise DataError(what, "Correct it; where these are names of classes, say --task classification")


def make_task(
    place: Path,
    label: np.ndarray,
    names: Sequence[str] | None,
    told: str,
    target: str = LABEL,
    ends: Ends | None = None,
) -> Task:
    """Return the task of some targets.

    Args:
        place: of the data, for messages.
        label: the targets, (n,) or (n, L).
        names: of classes or labels, where the data name them.
        told: the task, '' where the targets are to tell.
        target: what a number is called. ends: its range; with one the targets are numbers.

    Raises:
        ConfigError: they can't be of the task that was told; another task than a number has no range.
        DataError: a target is none that the task can have; names are missing.
    """
    if label.ndim == 1 and label.dtype.kind in "US":
        _check_cells(place, label, told)
    if ends is not None and told not in ("", Regression.name):
        raise ConfigError(f"--range is of a number, and the task is {told}", "Leave out --range, or --task")
    kind = told or (guess(label) if ends is None else Regression.name)
    low, high = ends or (-math.inf, math.inf)
    cells = label.ndim == 1 and (kind != Multilabel.name or label.dtype.kind in "US")
    if not cells and not (label.ndim == 2 and kind == Multilabel.name and label.dtype.kind in "biuf"):
        what = f"{place}: label is {label.dtype} {list(label.shape)}, and {kind} takes another shape"
        raise ConfigError(what, "Give (n,) for a class or a number, (n, L) of 0 and 1 for labels")
    if kind == Regression.name:
        if names is not None:
            raise ConfigError(f"{place}: a number has no class_names", "Leave them out, or name the task by --task")
        if not low < high:
            raise ConfigError(f"--range {low:g} {high:g} is empty", "Write the low end first")
        found: Task = Regression(target, low=low, high=high)
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
    numbers = _whole(place, label)
    count = int(numbers.max()) + 1
    if names is None:
        there = set(numbers.tolist())
        lacking = next((k for k in range(count) if k not in there), None)
        if lacking is not None:
            what = f"{place}: no sample has the label {lacking}, and one has {count - 1}"
            raise DataError(what, "Number classes from 0, name them all by class_names, or say --task regression")
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
        fix = "Labels are names of classes, or whole numbers from 0; of numbers say --task regression"
        what = f"{place}: the label of row {row} is {label[row]}"
        raise DataError(what, fix if np.isfinite(numbers[row]) else NO_NUMBER)
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
            if isinstance(one, float):
                known = math.isfinite(one)
                fix = "Correct it, or the range (--range, or `task` in the dataset's file)" if known else NO_NUMBER
            elif one == ():
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
        ends = [
            f", {end}={value!r}" for end, value in (("low", task.low), ("high", task.high)) if math.isfinite(value)
        ]
        hint = "unit= where it has one" if ends else "unit=, low= and high= where it has a unit and a range"
        line = f"task = Regression({json.dumps(task.target)}{''.join(ends)})  # {hint}"
        return {**count, "task": f"    {line}\n", "task_class": ", Regression", "targets": "a number each"}
    if isinstance(task, Multilabel):
        lines = f"{names}    task = Multilabel(class_names)\n"
        return {**count, "task": lines, "task_class": ", Multilabel", "targets": plural(task.outputs, "label")}
    return {**count, "task": names, "task_class": "", "targets": plural(task.outputs, "class")}
