"""Jackknife values of metrics that are functions of a confusion table: macro-F1, balanced accuracy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Metric = Callable[[NDArray[np.generic]], float]


def table_pseudo_values(
    metric: Metric, label: NDArray[np.generic], predicted: NDArray[np.generic], classes: int
) -> NDArray[np.float64]:
    """Return what `pseudo_values` does, (S, n), for a metric of the confusion table, in C^2 evaluations a seed.

    Leaving out an item changes one cell of the table, so all items of a cell have one value.

    Args:
        metric: of an integer table (C, C), rows the true classes. label: (n,). predicted: (S, n).
    """
    S, n = predicted.shape
    if n < 2:
        raise ValueError("the jackknife needs at least two items")
    cell = label.astype(np.int64) * classes + predicted.astype(np.int64)
    out = np.empty((S, n))
    for s in range(S):
        counts = np.bincount(cell[s], minlength=classes * classes)
        without = np.zeros(counts.size)
        for place in np.flatnonzero(counts):
            counts[place] -= 1
            without[place] = metric(counts.reshape(classes, classes))
            counts[place] += 1
        left_out = without[cell[s]]
        out[s] = metric(counts.reshape(classes, classes)) - (n - 1) * (left_out - left_out.mean())
    return out
