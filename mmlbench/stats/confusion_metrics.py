"""Jackknife values of metrics that are functions of a confusion table: macro-F1, balanced accuracy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Takes confusion tables (K, C, C) and returns a number of each (K,).
Metric = Callable[[NDArray[np.int64]], NDArray[np.float64]]
#: Numbers of confusion tables that are worked on at once: 8 MB.
PIECE = 2**20


def table_pseudo_values(
    metric: Metric, label: NDArray[np.generic], predicted: NDArray[np.generic], classes: int
) -> NDArray[np.float64]:
    """Return what `pseudo_values` does, (S, n), for a metric of the confusion table, in C^2 evaluations a seed.

    Leaving out an item changes one cell of the table, so all items of a cell have one value.

    Args:
        metric: of integer tables (K, C, C), rows the true classes. label: (n,). predicted: (S, n).
    """
    S, n = predicted.shape
    if n < 2:
        raise ValueError("the jackknife needs at least two items")
    cell = label.astype(np.int64) * classes + predicted.astype(np.int64)
    out = np.empty((S, n))
    for s in range(S):
        counts = np.bincount(cell[s], minlength=classes * classes)
        without = np.zeros(counts.size)
        found = np.flatnonzero(counts)
        for places in np.split(found, range(0, len(found), max(1, PIECE // counts.size))[1:]):
            tables = np.repeat(counts[None], len(places), axis=0)
            tables[np.arange(len(places)), places] -= 1
            without[places] = metric(tables.reshape(-1, classes, classes))
        left_out = without[cell[s]]
        out[s] = metric(counts.reshape(1, classes, classes)) - (n - 1) * (left_out - left_out.mean())
    return out
