"""Metrics of one class a sample that are functions of a confusion table, and their jackknife values. Numpy alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .jackknife import pseudo_values

#: Takes confusion tables (K, C, C), rows the true classes, and returns a number of each (K,).
OfTables = Callable[[NDArray[np.int64]], NDArray[np.float64]]
#: Numbers of confusion tables that are worked on at once: 8 MB.
PIECE = 2**20


def confusion(predicted: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each class (row) was taken for each (column), int64 (C, C)."""
    flat = label.astype(np.int64) * classes + predicted
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def macro_f1(predicted: np.ndarray, label: np.ndarray, classes: int) -> float:
    """Return the mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    A class that is neither predicted nor there has no F1 and is left out; one that is there and never predicted
    counts 0.
    """
    return float(f1_of(confusion(predicted, label, classes)[None])[0])


def balanced_accuracy(predicted: np.ndarray, label: np.ndarray, classes: int) -> float:
    """Return the mean over the classes that are there of the share of theirs that is right."""
    return float(balanced_of(confusion(predicted, label, classes)[None])[0])


def f1_of(tables: np.ndarray) -> np.ndarray:
    """Return macro-F1 (K,) of confusion tables (K, C, C); see `macro_f1`."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    return mean_over_classes(2 * hits, tables.sum(axis=1) + tables.sum(axis=2))


def balanced_of(tables: np.ndarray) -> np.ndarray:
    """Return balanced accuracy (K,) of confusion tables (K, C, C)."""
    return mean_over_classes(np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2))


def mean_over_classes(hits: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the mean of hits / size (K, C) over the classes that are there, NaN where none is."""
    found = np.full(len(size), np.nan)
    whole = (size > 0).all(axis=1)
    found[whole] = (hits[whole] / size[whole]).mean(axis=1)
    for k in np.flatnonzero(~whole):
        there = size[k] > 0
        if there.any():
            found[k] = (hits[k, there] / size[k, there]).mean()
    return found


def table_left_out(metric: OfTables, label: np.ndarray, predicted: np.ndarray, classes: int) -> NDArray[np.float64]:
    """Return the metric with each sample left out in turn (n,), in at most C^2 evaluations.

    Leaving out a sample changes one cell of the table, so all samples of a cell have one value.

    Args:
        label, predicted: classes (n,).
    """
    cell = label.astype(np.int64) * classes + predicted.astype(np.int64)
    counts = np.bincount(cell, minlength=classes * classes)
    without = np.zeros(counts.size)
    found = np.flatnonzero(counts)
    for places in np.split(found, range(0, len(found), max(1, PIECE // counts.size))[1:]):
        tables = np.repeat(counts[None], len(places), axis=0)
        tables[np.arange(len(places)), places] -= 1
        without[places] = metric(tables.reshape(-1, classes, classes))
    left_out: NDArray[np.float64] = without[cell]
    return left_out


def table_pseudo_values(
    metric: OfTables, label: NDArray[np.generic], predicted: NDArray[np.generic], classes: int
) -> NDArray[np.float64]:
    """Return jackknife values (S, n) of a metric of the confusion table, one row a seed.

    Args:
        label: (n,). predicted: (S, n).

    Raises:
        ValueError: fewer than two samples.
    """
    if predicted.shape[1] < 2:
        raise ValueError("the jackknife needs at least two items")
    rows = []
    for row in predicted:
        value = float(metric(confusion(row.astype(np.int64), label, classes)[None])[0])
        rows.append(pseudo_values(value, table_left_out(metric, label, row, classes)))
    return np.stack(rows)
