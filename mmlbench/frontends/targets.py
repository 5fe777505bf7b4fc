"""Targets of data that somebody has already: which task they are of, and what a written dataset says of it.

Targets are an array (n,), or (n, L) of 0 and 1, or the cells of a column. `mmlbench new dataset --from` makes
the task of them, once; `prepare` of the written dataset states them as that task has it.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..dataset import PARTS
from ..errors import ConfigError, DataError, brief, nearest
from ..registry.describe import modality_name_faults
from ..storage.words import plural
from ..task import Classification, Multilabel, Regression, Task
from ..task.base import Label

#: What to do about a target that is NaN or infinite.
NO_NUMBER = "Fill it in, or drop the sample"
#: Between the labels of a sample, in a cell.
BETWEEN = ";"
#: Names of targets and of groups where nobody has named them, and of what has no other name.
LABEL, GROUP, PART, ID = "label", "group", "part", "id"
#: The range of a number: its low and its high end.
Ends = tuple[float, float]


# ---- what all data have beside their modalities ------------------------------------------------------------------
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
    missing = next((name for name in (label, PART, *named) if name not in names), None)
    if missing is None:
        return
    what = f"{place} has no {noun} {missing!r}"
    if missing in named:
        raise DataError(what, nearest(missing, names))
    more = ", or say which one is: --label NAME" if missing == LABEL else ""
    raise DataError(what, f"Add it, one entry a sample{more}; there are: {', '.join(names) or 'none'}")


def check_modality_names(place: Path, noun: str, names: Collection[str]) -> None:
    """Refuse arrays or columns whose names no modality can have.

    Raises:
        DataError: with the first.
    """
    for fault in modality_name_faults(names):
        raise DataError(f"{place}: {fault}", f"Rename the {noun}, or leave it out")


def check_parts(where: str, parts: Iterable[str]) -> None:
    """Refuse parts other than train, val and test, and data without train or test.

    Raises:
        DataError: with what there is.
    """
    there = set(parts)
    if not {"train", "test"} <= there <= set(PARTS):
        what = f"{where} holds {', '.join(brief(part) for part in sorted(there))}"
        raise DataError(what, "Write train, val and test; train and test are needed")


def counts_of(parts: Sequence[str]) -> dict[str, int]:
    """Return part -> number of samples."""
    return {part: parts.count(part) for part in PARTS}


def written_names(label: str, group: str, has_group: bool) -> dict[str, str]:
    """Return the words with which the templates say how targets and groups are called."""
    told = [("label", label, LABEL), ("group", group, GROUP)]
    return {
        "named": "".join(f", {key}={json.dumps(name)}" for key, name, usual in told if name != usual),
        "group": f", group={json.dumps(group)}" if has_group else "",
    }


def texts(values: np.ndarray) -> list[str]:
    """Return an array (n,) as texts, composed (NFC) as Unicode has it: an accent is one letter; bytes are UTF-8."""
    found = (one.decode() if isinstance(one, bytes) else str(one) for one in values.tolist())
    return [unicodedata.normalize("NFC", one) for one in found]


# ---- from targets to their task ----------------------------------------------------------------------------------
def _words(cell: str) -> list[str]:
    """Return the names of a sample's labels."""
    return [word.strip() for word in cell.split(BETWEEN) if word.strip()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(label: np.ndarray) -> np.ndarray | None:
    """Return targets (n,) as float64, None where one is no number."""
    try:
        return label.astype(np.float64)
    except ValueError:
        return None


def guess(label: np.ndarray) -> str:
    """Return which task targets (n,) or (n, L) can only be of; 'classification' where nothing says otherwise.

    Numbers of which some have a fraction are of a regression, and rows (n, L) of a multilabel task.
    """
    if label.ndim == 2:
        return Multilabel.name
    numbers = None if label.dtype.kind in "biu" else _numbers(label)
    if numbers is None:
        return Classification.name
    finite = numbers[np.isfinite(numbers)]
    return Regression.name if (finite != np.floor(finite)).any() else Classification.name


def _check_cells(where: str, label: np.ndarray, told: str) -> None:
    """Refuse texts that are empty, and texts of which most are numbers and one is none: a typing error, no class.

    Raises:
        DataError: with the first row of either.
    """
    cells = texts(label)
    empty = next((row for row, text in enumerate(cells) if not text.strip()), None)
    if empty is not None and told != Multilabel.name:
        raise DataError(f"{where} of row {empty} is empty", "Fill it in, or leave the sample out")
    odd = [] if told or _numbers(label) is not None else [k for k, text in enumerate(cells) if not _is_number(text)]
    if 0 < len(odd) < len(cells) / 2:
        what = f"{where} of row {odd[0]} is {brief(cells[odd[0]])}, and most are numbers"
        raise DataError(what, "Correct it; where these are names of classes, say --task classification")


def _check_form(where: str, label: np.ndarray, kind: str) -> None:
    """Refuse targets of a shape or type that no target of a task has.

    Raises:
        ConfigError: saying which the task takes.
    """
    what = f"{where} is {label.dtype} {list(label.shape)}, and {kind} takes another"
    table = label.ndim == 2
    names = label.ndim == 1 and label.dtype.kind in "US"
    fits = table or names if kind == Multilabel.name else label.ndim == 1
    if not fits:
        raise ConfigError(f"{what} shape", "Give (n,) for a class or a number, (n, L) of 0 and 1 for labels")
    if table and label.dtype.kind not in "biuf":
        raise ConfigError(f"{what} type", f"Write 0 and 1, or names in one text a sample with {BETWEEN} between")


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
        target: what the targets are called. ends: the range of a number; with one the targets are numbers.

    Raises:
        ConfigError: they can't be of the task that was told; another task than a number has no range.
        DataError: a target is none that the task can have; names are missing.
    """
    where = f"{place}: the {target}"
    if ends is not None and told not in ("", Regression.name):
        raise ConfigError(f"--range is of a number, and the task is {told}", "Leave out --range, or --task")
    if label.ndim == 1 and label.dtype.kind in "US":
        _check_cells(where, label, told)
    kind = told or (guess(label) if ends is None else Regression.name)
    _check_form(where, label, kind)
    if kind == Regression.name:
        if names is not None:
            raise ConfigError(f"{place}: a number has no class_names", "Leave them out, or name the task by --task")
        low, high = ends or (-math.inf, math.inf)
        if not low < high:
            raise ConfigError(f"--range {low:g} {high:g} is empty", "Write the low end first")
        found: Task = Regression(target, low=low, high=high)
    elif kind == Multilabel.name:
        found = Multilabel(_label_names(where, label, names))
    else:
        found = Classification(_class_names(place, target, label, names))
    faults = found.faults()
    if faults:
        raise DataError(f"{place}: {faults[0]}", f"Correct {target} or class_names, or name the task by --task")
    state(place, label, found, target)  # refuses a target that the task can't have
    return found


def _class_names(place: Path, target: str, label: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes: sorted where targets name them.

    Raises:
        DataError: a target is no class number; a number below another has no sample; names are missing.
    """
    if label.dtype.kind in "US":
        return tuple(sorted(set(texts(label)))) if names is None else tuple(names)
    numbers = _whole(f"{place}: the {target}", label)
    count = int(numbers.max()) + 1
    if names is None:
        there = set(numbers.tolist())
        lacking = next((k for k in range(count) if k not in there), None)
        if lacking is not None:
            what = f"{place}: no sample has the {target} {lacking}, and one has {count - 1}"
            raise DataError(what, "Number classes from 0, name them all by class_names, or say --task regression")
        return tuple(f"class {k}" for k in range(count))
    if len(names) < count:
        what = f"{place}: there are {plural(count, 'class')} and {len(names)} class_names"
        raise DataError(what, "Name them all")
    return tuple(names)


def _label_names(where: str, label: np.ndarray, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the labels.

    Raises:
        DataError: there are fewer or more names than columns.
    """
    if label.ndim == 1:
        found = sorted({word for cell in texts(label) for word in _words(cell)})
        return tuple(found) if names is None else tuple(names)
    if names is None:
        return tuple(f"label {k}" for k in range(label.shape[1]))
    if len(names) != label.shape[1]:
        what = f"{where} has {plural(label.shape[1], 'column')}, and there are {len(names)} class_names"
        raise DataError(what, "Name each column once")
    return tuple(names)


def _whole(where: str, label: np.ndarray) -> np.ndarray:
    """Return class numbers as float64.

    Raises:
        DataError: one is no whole number from 0, with its row.
    """
    numbers = label.astype(np.float64)
    wrong = ~((numbers >= 0) & (numbers == np.floor(numbers)) & np.isfinite(numbers))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        fix = "Classes are names, or whole numbers from 0; of numbers say --task regression"
        raise DataError(f"{where} of row {row} is {label[row]}", fix if np.isfinite(numbers[row]) else NO_NUMBER)
    return numbers


# ---- from targets to labels of samples ---------------------------------------------------------------------------
def state(place: Path, label: np.ndarray, task: Task, target: str = LABEL) -> list[Label]:
    """Return each sample's target as the task has it.

    Args:
        label: (n,) or (n, L). target: what the targets are called.

    Raises:
        ConfigError: a task whose targets are not read from data.
        DataError: one is none that the task can have, with its row and the fix.
    """
    where, fix = f"{place}: the {target}", "Correct it, or what `task` in the dataset's file says"
    numbers = {name: number for number, name in enumerate(task.names)}
    found: list[Label]
    if isinstance(task, Regression):
        found = list(_stated_numbers(where, label))
        fix = "Correct it, or the range (--range, or `task` in the dataset's file)"
    elif isinstance(task, Multilabel):
        found = list(_stated_labels(where, label, numbers))
        fix = "Give it one, or let the dataset's file say Multilabel(class_names, may_be_empty=True)"
    elif not isinstance(task, Classification):
        raise ConfigError(f"{place}: targets of a {task.name} task are not read from data", "Write a `prepare`")
    elif label.dtype.kind in "US":
        found = [_number_of(where, row, name, numbers) for row, name in enumerate(texts(label))]
    else:
        found = list(map(int, _whole(where, label)))
    for row, one in enumerate(found):
        fault = task.label_fault(one)
        if fault:
            finite = not isinstance(one, float) or math.isfinite(one)
            raise DataError(f"{where} of row {row} {fault}", fix if finite else NO_NUMBER)
    return found


def _number_of(where: str, row: int, name: str, numbers: Mapping[str, int]) -> int:
    """Return the number of a class or label.

    Raises:
        DataError: it has none, with the nearest that has.
    """
    if name not in numbers:
        what = f"{where} of row {row} is {brief(name)}, which the dataset does not declare"
        raise DataError(what, nearest(name, numbers))
    return numbers[name]


def _stated_numbers(where: str, label: np.ndarray) -> list[float]:
    """Return targets (n,) as numbers; refuse a text that is none."""
    numbers = _numbers(label)
    if numbers is not None:
        return list(map(float, numbers))
    row, text = next((row, text) for row, text in enumerate(texts(label)) if not _is_number(text))
    what = f"{where} of row {row} is {brief(text)}, no number"
    raise DataError(what, "Write a number, or another --task")


def _stated_labels(where: str, label: np.ndarray, numbers: Mapping[str, int]) -> list[tuple[int, ...]]:
    """Return the labels of each sample, of texts (n,) or of 0 and 1 (n, L); refuse what is neither."""
    if label.ndim == 1:
        cells = enumerate(map(_words, texts(label)))
        return [tuple(_number_of(where, row, name, numbers) for name in names) for row, names in cells]
    if label.shape[1] != len(numbers):
        what = f"{where} has {plural(label.shape[1], 'column')}, declared are {plural(len(numbers), 'label')}"
        raise DataError(what, "Correct class_names in the dataset's file, or bring the arrays that it was made from")
    wrong = ~((label == 0) | (label == 1)).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{where} of row {row} is {brief(label[row].tolist())}", "Write 0 or 1 of each label")
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
