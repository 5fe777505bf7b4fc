"""The probability of being best, from the resampling form of the two-part interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import _matrix, variance_parts

#: With fewer seeds their variance is hardly known; with fewer items the resampling form has not been shown to hold.
LEAST_SEEDS, LEAST_ITEMS = 5, 400


def resampled_means(matrices: Sequence[ArrayLike], draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Return what K methods' means could have been, (K, draws); one draw serves all methods.

    mean + sqrt(V_i+ / V_i) (mean over resampled items - mean) + sqrt((S - 1) / q) sum_s xi_s (D_s - mean) /
    sqrt(S (S - 1)), xi standard normal per seed, q chi-square with S - 1 degrees of freedom. Items and seeds are
    those of all methods alike, so that what they share cancels. The means over resampled items are drawn from their
    normal limit, with the covariance that resampling has: the same from `LEAST_ITEMS` items on, and a thousand times
    cheaper.

    Args:
        matrices: (S, n) each, the same seeds and items, no clusters. draws: their number. seed: of the draws.
    """
    every = [_matrix(matrix) for matrix in matrices]
    first: dict[bytes, int] = {}  # rows of equal values are one row, or rounding would tell their draws apart
    place = [first.setdefault(matrix.tobytes(), len(first)) for matrix in every]
    data = [every[place.index(k)] for k in range(len(first))]
    K, (S, n) = len(data), data[0].shape
    if any(matrix.shape != (S, n) for matrix in every) or S < 2:
        raise ValueError("expected matrices of the same seeds (two at least) and items")
    of_item = np.stack([matrix.mean(axis=0) for matrix in data])
    means = of_item.mean(axis=1, keepdims=True)
    of_seed = np.stack([matrix.mean(axis=1) for matrix in data]) - means
    parts = [variance_parts(matrix) for matrix in data]
    shrink = np.array([[float(np.sqrt(p[4] / p[2])) if p[2] > 0 else 0.0] for p in parts])
    centred = of_item - means
    covariance = centred @ centred.T / n**2
    tiny = 1e-12 * max(float(np.trace(covariance)), 1e-300)  # equal methods make it singular
    rng = np.random.default_rng([seed, S, n, K])
    items = np.linalg.cholesky(covariance + tiny * np.eye(K)) @ rng.standard_normal((K, draws))
    scale = np.sqrt((S - 1) / rng.chisquare(S - 1, size=draws))
    xi = rng.standard_normal((S, draws)) * scale / np.sqrt(S * (S - 1))
    return (means + shrink * items + of_seed @ xi)[place]


def probability_best(matrices: Sequence[ArrayLike], draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Return how often each of K methods has the greatest of the resampled means (K,); equals share a draw.

    How sure these data are of the order, under the same model as the intervals; no posterior, and no test. It is too
    sure where methods hardly differ: of methods half a point apart, one that it gives 76 % was best in 40 %.

    Raises:
        ValueError: fewer than `LEAST_SEEDS` seeds or `LEAST_ITEMS` items: then there is no honest value.
    """
    S, n = _matrix(matrices[0]).shape
    if S < LEAST_SEEDS or n < LEAST_ITEMS:
        raise ValueError(f"{S} seeds and {n} items: it takes {LEAST_SEEDS} and {LEAST_ITEMS}")
    means = resampled_means(matrices, draws, seed)
    first = means >= means.max(axis=0) - 1e-12
    return (first / first.sum(axis=0)).sum(axis=1) / draws
