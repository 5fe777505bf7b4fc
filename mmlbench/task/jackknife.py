"""Jackknife values: a number a sample for a metric that is no mean, ready for the two-part interval. Numpy alone.

`mmlbench.stats.pseudo_values` is the same for any function, by n evaluations; the metrics here know their values with
one sample left out from sums, so that a test part of thousands costs no more than a sort.
"""

from __future__ import annotations

import numpy as np


def pseudo_values(value: float, left_out: np.ndarray) -> np.ndarray:
    """Return value - (n - 1) (left_out - mean(left_out)), float64 (n,): jackknife values whose mean is the value.

    The usual n theta - (n - 1) theta_without_i are shifted so that their mean is the metric itself and not its
    bias-corrected form. For a mean they are the samples' own values.

    Args:
        left_out: the metric with each sample left out in turn (n,).

    Raises:
        ValueError: fewer than two samples.
    """
    n = len(left_out)
    if n < 2:
        raise ValueError("the jackknife needs at least two items")
    found: np.ndarray = value - (n - 1) * (left_out - left_out.mean())
    return found
