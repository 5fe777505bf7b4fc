"""The smallest difference that a table can resolve: what it would have found with 80 % power."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..results.groups import Entry, Group
from ..stats import Smallest, moderated_resolution, resolution
from .board import LargeBoard
from .row_builders import What, blank, common_seeds, known
from .rows import Row, SeedVariance

#: A row's values of each seed on each test sample (seeds, n), its seeds in order.
Values = tuple[Entry, np.ndarray]


def differences(values: Sequence[Values], baseline: Entry | None) -> list[np.ndarray]:
    """Return the paired differences to the baseline over the common seeds; of all pairs where it is not there."""
    there = [entry for entry, _ in values]
    pairs = [(a, b) for a, b in combinations(values, 2) if baseline not in there or baseline in (a[0], b[0])]
    found = []
    for (one, ours), (other, theirs) in pairs:
        seeds = common_seeds(one, other)
        if seeds:
            found.append(_of(one, ours, seeds) - _of(other, theirs, seeds))
    return found


def _of(entry: Entry, values: np.ndarray, seeds: tuple[int, ...]) -> np.ndarray:
    return values[[entry.seeds.index(seed) for seed in seeds]]


def resolution_row(
    group: Group,
    what: What,
    matrices: Sequence[np.ndarray],
    entries: Sequence[Entry],
    message: str,
    comparisons: int = 1,
) -> Row | None:
    """Return the row with the smallest true value that is found with 80 % power, from matrices (seeds, n).

    None where there is nothing to compare; without a value where one seed separates nothing.
    """
    if not matrices:
        return None
    found = resolution(matrices, group.clusters, comparisons)
    row = _row(group, what, entries, found, message, comparisons, "the mean variances")
    row.n_seeds = found.seeds if found else min(matrix.shape[0] for matrix in matrices)
    return row


def _row(
    group: Group,
    what: What,
    entries: Sequence[Entry],
    found: Smallest | None,
    message: str,
    comparisons: int,
    variances: str,
) -> Row:
    row = blank(group, None, what, entries)
    row.value = known(found.value) if found else None
    row.comparisons = comparisons if comparisons > 1 else None
    over = "single comparison" if comparisons == 1 else f"corrected for {comparisons} comparisons"
    row.note = f"smallest true {message} found with 80 % power, {over}"
    if found:
        row.n_seeds = found.seeds
        row.note += f"; from {variances} of {found.count}"
        row.note += f", singly {found.low:.3g} to {found.high:.3g}" if found.count > 1 else ""
    return row


def board_resolution(group: Group, board: LargeBoard, rule: str, comparisons: int) -> Row:
    """Return the resolution of differences between any two rows of a large board, as its ranks are tested."""
    what = What("accuracy", "fused", "resolution", "fused", rule, unit=group.unit)
    found = moderated_resolution(board.tests, comparisons)
    row = _row(group, what, board.entries, found, "difference", comparisons, "the moderated variances")
    row.seed_variance = SeedVariance.MODERATED
    return row


def between(
    group: Group,
    what: tuple[str, str, str, str],
    values: Sequence[Values],
    baseline: Entry | None,
    message: str,
    comparisons: int = 1,
    unit: str = "points",
) -> Row | None:
    """Return the resolution of differences between rows: to the baseline, or of all pairs where it is not there.

    Args:
        what: table, modality, metric and selection of the row.
    """
    entries = [entry for entry, _ in values]
    name = baseline.label if baseline is not None and baseline in entries else ""
    table, modality, metric, rule = what
    described = What(table, modality, metric, "fused", rule, name, unit)
    return resolution_row(group, described, differences(values, baseline), entries, message, comparisons)
