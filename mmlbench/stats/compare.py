"""Comparing many methods, and the price of picking on test.

Which methods are "not separable from the best" is decided over *all* pairs: Holm against the observed winner
only is too generous, because the winner was selected by the same data. Not here, on purpose: rank tests on a
handful of seeds (five seeds cannot reach .05 two-sided), the probability of being best below five seeds, and
an interval on "best on test minus last epoch", which cannot be negative; `cross_fit_optimism` replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import Condition, Estimate, Lacking, _check_level, _difference, _matrix, two_part

#: float32 holds each whole number below this.
_EXACT = 2**24


@dataclass(frozen=True)
class Ranked:
    """One method's place: its mean, its group, and its adjusted p-value against the best mean.

    ``group`` is 1 + the number of methods that are better *and separated* from this one, so group 1 is "not
    separable from the best" and methods that nothing separates share a number.
    """

    name: str
    mean: float
    group: int
    p_against_best: float
    conditional_on: tuple[Condition, ...] = ()
    lacking: Lacking = Lacking.NOTHING


@dataclass(frozen=True)
class CrossFit:
    """Accuracy with the epoch picked on the items it is scored on (naive) and on others (cross_fit)."""

    naive: float
    cross_fit: float
    optimism: float
    epoch: int


def holm(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values, in the given order; ValueError for values outside [0, 1], nan."""
    p = np.asarray(pvalues, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("expected a list of p-values between 0 and 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's (1995) adjusted p-values, in the given order; ValueError as of `holm`.

    What is below .05 then holds false ones in 5 % of its members on average. So a long list holds some in most cases:
    of simulated boards of forty rows that differ, 40 to 95 % have a wrong order somewhere. Holm's keeps that to 5 %.
    """
    p = np.asarray(pvalues, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("expected a list of p-values between 0 and 1")
    order = np.argsort(p, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p[order] * p.size / np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def all_pairs_groups(
    names: Sequence[str],
    matrices: Sequence[ArrayLike],
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    higher_is_better: bool = True,
) -> list[Ranked]:
    """Order methods by mean, best first, and group them by Holm over all K(K-1)/2 paired differences.

    Every matrix is (S, n) with the same seeds and items. Two methods are separated where the adjusted p-value
    of their paired two-part difference is below 1 - level. With one seed nothing is separated. A difference
    that is constant and not zero has no p-value and is not separated either. Each pair has its own seed variance;
    the tables take those of `moderated_pairs` on boards of `LEAST_ROWS` rows and more. ``conditional_on`` and
    ``lacking`` are those of the difference to the best. Equal means keep the given order. ValueError for unequal
    shapes or repeated names.
    """
    _check_level(level)
    if len(names) != len(matrices) or len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names ({len(set(names))} different) for {len(matrices)} matrices")
    data = [_matrix(matrix) for matrix in matrices]
    sign = -1.0 if higher_is_better else 1.0
    means = [float(matrix.mean()) for matrix in data]
    order = sorted(range(len(data)), key=lambda k: sign * means[k])
    p, to_best = _pairwise(data, order, clusters)
    ranked = []
    for place, k in enumerate(order):
        separated = sum(p[place, better] < 1 - level for better in range(place) if means[order[better]] != means[k])
        one, best = Ranked(names[k], means[k], 1 + separated, float(p[0, place])), to_best.get(place)
        if best is not None:
            one = replace(one, conditional_on=best.conditional_on, lacking=best.lacking)
        ranked.append(one)
    return ranked


def cross_fit_optimism(correct: ArrayLike, seed: int = 0, repeats: int = 200) -> CrossFit:
    """What picking the best of E epochs on the test items buys; ``correct`` is (E epochs, n items).

    The items are split at random into halves; the epoch picked on one half is scored on the other, and the
    other way round, so every item is scored once; averaged over ``repeats`` splits. Ties go to the earlier
    epoch. ``optimism`` = naive - cross_fit; it is never negative (on each half the other half's pick is at
    most as good as the own pick), and is an estimate of a bias, not a quantity to test against zero. Picking
    on half the items is a little harder than on all, so it leans towards too large. Deterministic in
    ``seed``, which does not depend on the data: the same splits serve all seeds and methods of one test set.
    """
    bits = _matrix(correct)
    n = bits.shape[1]
    exact = np.asarray(correct).dtype == np.bool_ and n < _EXACT  # of bits float32 gives the same sums, and faster
    if n < 2 or repeats < 1:
        raise ValueError(f"{n} item(s) and {repeats} repeat(s): expected at least 2 items and 1 repeat")
    totals = bits.sum(axis=1)
    if exact:
        on_first = (bits.astype(np.float32) @ _halves(n, seed, repeats, np.float32)).astype(np.float64)
    else:
        on_first = bits @ _halves(n, seed, repeats, np.float64)
    on_second = totals[:, None] - on_first
    split = np.arange(repeats)
    scored = on_second[on_first.argmax(axis=0), split] + on_first[on_second.argmax(axis=0), split]
    epoch = int(totals.argmax())
    naive, honest = float(totals[epoch] / n), float(scored.mean() / n)
    return CrossFit(naive, honest, naive - honest, epoch)


@lru_cache(maxsize=2)
def _halves(n: int, seed: int, repeats: int, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Which of n items lie in the first half of each random split, (n, repeats); all runs share them."""
    order = np.random.default_rng([seed, n]).permuted(np.tile(np.arange(n), (repeats, 1)), axis=1)
    first = np.zeros((n, repeats), dtype)
    np.put_along_axis(first.T, order[:, : n // 2], 1.0, axis=1)
    first.setflags(write=False)
    return first


def _pairwise(
    data: list[NDArray[np.float64]], order: list[int], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], dict[int, Estimate]]:
    """Adjusted p-values (K, K) by place in the order, diagonal 1; and place -> its difference to the best."""
    K = len(data)
    p = np.ones((K, K))
    to_best: dict[int, Estimate] = {}
    if K < 2:
        return p, to_best
    pairs = list(combinations(range(K), 2))
    estimates = [two_part(_difference(data[order[a]], data[order[b]]), clusters) for a, b in pairs]
    if estimates[0].n_seeds == 1:
        return p, dict.fromkeys(range(K), estimates[0])
    raw = [1.0 if math.isnan(e.p_value) else e.p_value for e in estimates]
    for (a, b), value, estimate in zip(pairs, holm(raw), estimates, strict=True):
        p[a, b] = p[b, a] = value
        if a == 0:
            to_best[b] = estimate
    return p, to_best
