"""Pairing two sources that know only the class of each other: pools, and orders that are fair to groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratified_pools(label: np.ndarray, val_each: int, test: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Divide rows into disjoint pools for train, val and test, class by class.

    Args:
        label: classes of the rows, (n,).
        val_each: rows per class in the pool of val.
        test: rows in the pool of test, divided over the classes as their sizes are (largest remainders).
        rng: decides which row goes where.

    Returns:
        Part -> row numbers, sorted by class.
    """
    by_class = [rng.permutation(np.flatnonzero(label == k)) for k in np.unique(label)]
    exact = np.array([len(rows) for rows in by_class]) * test / len(label)
    share = np.floor(exact).astype(int)
    share[np.argsort(share - exact, kind="stable")[: test - share.sum()]] += 1
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for rows, count in zip(by_class, share, strict=True):
        parts["test"].append(rows[:count])
        parts["val"].append(rows[count : count + val_each])
        parts["train"].append(rows[count + val_each :])
    return {part: np.concatenate(rows) for part, rows in parts.items()}


def in_turn(rows: Sequence[int], group: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Order rows so that their groups take turns, each group's rows at random.

    Args:
        rows: row numbers.
        group: group of each of them.
        rng: order within a group.
    """
    queues: dict[str, list[int]] = {}
    for place in rng.permutation(len(rows)):
        queues.setdefault(group[place], []).append(rows[place])
    return [
        row for _, _, row in sorted((turn, name, row) for name, q in queues.items() for turn, row in enumerate(q))
    ]
