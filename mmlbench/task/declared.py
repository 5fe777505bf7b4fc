"""From what a file says of a task to the task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .base import Metric, Task
from .classification import Classification
from .multilabel import Multilabel
from .regression import Regression

#: Name -> class, of every task that there is.
TASKS: Mapping[str, type[Task]] = {kind.name: kind for kind in (Classification, Multilabel, Regression)}
#: Their names, for a method whose only losses are `task_loss`.
ALL_TASKS = tuple(TASKS)


def task_of(name: str, names: Sequence[str], parameters: Mapping[str, Any]) -> Task:
    """Return a task from plain data: its name, those of its outputs, and `Task.parameters`.

    Raises:
        ValueError, TypeError, KeyError: it is none, or has other parameters; a fault of who wrote the data.
    """
    if name == Classification.name:
        found: Task = Classification(tuple(names), **parameters)
    elif name == Multilabel.name:
        found = Multilabel(tuple(names), **parameters)
    elif name == Regression.name:
        ends = {"low": -math.inf, "high": math.inf}
        given: dict[str, Any] = {k: ends.get(k) if value is None else value for k, value in parameters.items()}
        (target,) = names
        found = Regression(target, **given)
    else:
        raise ValueError(f"{name!r} is no task")
    if found.faults():
        raise ValueError("; ".join(found.faults()))
    return found


#: One of each, whose metrics are all that there are.
_EXAMPLES = (Classification.of(2), Multilabel(("a",)), Regression("number", low=-3, high=3))
#: Name -> metric, of any task; of two tasks with one name the first. What is common to all of a name is read from it:
#: title, direction, bounds, whether it is a share.
_KNOWN = {name: metric for task in reversed(_EXAMPLES) for name, metric in task.metrics.items()}


def known_metric(name: str) -> Metric | None:
    """Return a metric by its name alone, as the tables have it ('accuracy', 'mae@mean'); None where none has it.

    Its unit is not that of the data, and its functions are not to be called.
    """
    return _KNOWN.get(name.partition("@")[0])
