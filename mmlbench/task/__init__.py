"""Tasks: what is asked for of a sample. One object owns all that depends on it; no other file asks which task it is,
but for those that make a task of somebody's data, or data for a task (`frontends/targets.py`, `testing`).

    class Clips(Dataset):
        class_names = ("joy", "anger")                    # classification, where nothing else is said

    class Films(Dataset):
        class_names = ("comedy", "drama", "thriller")
        task = Multilabel(class_names)                    # any number of labels a sample, one at least

    class Opinions(Dataset):
        task = Regression("sentiment", low=-3, high=3)    # one number a sample

A new task is a class in a file of its own, and its name in `TASKS`. PyTorch is imported where a tensor is made or a
loss is taken, and nowhere else, so that planning and tables start without it.
"""

from .base import Metric, ProbeKind, Task
from .classification import Classification
from .declared import ALL_TASKS, TASKS, known_metric, task_of
from .multilabel import Multilabel
from .regression import Regression

__all__ = [
    "ALL_TASKS",
    "TASKS",
    "Classification",
    "Metric",
    "Multilabel",
    "ProbeKind",
    "Regression",
    "Task",
    "known_metric",
    "task_of",
]
