"""Drawn outputs and targets of every task."""

from __future__ import annotations

import numpy as np

from mmlbench.task import Classification, Multilabel, Regression, Task

NAMES = ("a", "b", "c", "d")
TASKS: dict[str, Task] = {
    "classification": Classification(NAMES),
    "multilabel": Multilabel(NAMES, may_be_empty=True),
    "regression": Regression("sentiment", low=-3, high=3),
}


def some(task: str, n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs and targets of n samples as they are stored; some outputs are equal, some numbers are 0."""
    rng = np.random.default_rng(seed)
    if task == "classification":
        label = rng.integers(0, 4, n)
        return np.round(rng.normal(0, 1, (n, 4)) + np.eye(4)[label], 1).astype(np.float32), label
    if task == "multilabel":
        target = (rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.6]).astype(np.uint8)
        return np.round(rng.normal(0, 1, (n, 4)) + 2.0 * target - 1, 1).astype(np.float32), target
    target = np.clip(np.round(rng.normal(0, 1.5, n) * 3) / 3, -3, 3).astype(np.float32)
    return (target + rng.normal(0, 1, n)).astype(np.float32)[:, None], target
