"""Two-part intervals for values of S seeds scored on the same n items.

Every seed is scored on the same test items, so seeds and items are *crossed*: with D[s, i] the value of seed
s on item i (1 or 0 for correctness, or a difference of two such values), the grand mean varies because
another set of seeds, and because another set of items, would have been possible. The two-part interval gives
each source its own variance and its own t quantile and adds the squared half-widths::

    V_s = sum_s (mean_s - mean)^2 / (S (S - 1))         seeds; contains the seed x item noise once, kept
    V_i = sum_i (mean_i - mean)^2 / (n (n - 1))         items; contains the same noise again
    V_e = MS_residual / (S n)                           that noise, counted twice in V_s + V_i
    V_i+ = max(V_i - V_e, 0)
    V_s+ = max(V_s, V_e chi2(S-1; .05) / (S - 1))       a floor against ties, see `seed_variance`
    half-width = sqrt(t(S-1)^2 V_s+ + t(n-1)^2 V_i+)

The target is `INFERENCE_TARGET`; a seed must therefore never change the split. The difference of two methods
is always taken item by item and seed by seed first (`paired_difference`), because the methods share both.

Left out on purpose, because their measured coverage of a nominal 95 % is wrong on such data
(`benchmarks/interval_coverage.py` repeats the measurement):

* the nested bootstrap (seeds, then items anew within each seed) pretends that every seed has test items of
  its own, so it divides the item variance by S: 84-90 % with three seeds, 68-71 % with ten where items dominate;
* the percentile bootstrap, also in its crossed form and with bias correction, under-counts the seed variance
  by (S - 1)/S and uses no t quantile: below 80 % with three seeds where seeds dominate;
* intervals over the items alone, or over the seeds alone, answer a narrower question.

Bad input raises ValueError: these are pure functions of arrays, and what reaches them is not typed by users.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

INFERENCE_TARGET = "new seeds and new test items of this distribution, for this training set and rendering"
"""What the intervals speak about; printed under every table."""

MIN_CLUSTERS = 6
"""Fewer clusters than this carry no interval over clusters: it would be too wide to use or not hold."""

MIN_EFFECTIVE_CLUSTERS = 3.0
"""Nor do clusters of which one or two hold nearly all items (Kish's effective number below this)."""

SMALLEST_P = 1e-100
"""p-values below this are returned as this: the quantiles are no longer worth computing."""

FLOOR_QUANTILE = 0.05
"""How far down its own distribution the seed x item noise is still believed (`seed_variance`)."""


class Condition(StrEnum):
    """What an interval is conditional on: it says nothing about others of this kind."""

    MODEL = "model"  # one seed: this trained model
    CLUSTERS = "clusters"  # too few clusters for an interval over them: these ones


class Lacking(StrEnum):
    """Why an estimate has no interval."""

    NOTHING = ""
    ONE_ITEM = "one_item"
    NO_VARIATION = "no_variation"


class Few(StrEnum):
    """Which items are so few that an accuracy has Wilson's interval."""

    NEITHER = ""
    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True)
class Clusters:
    """The clusters of the items.

    Attributes:
        count: how many. effective: Kish's number of clusters of equal size that tell as much. over: whether the
            interval is over them; else it is conditional on them. name: what one is called.
    """

    count: int
    effective: float
    over: bool
    name: str = "group"


@dataclass(frozen=True)
class Estimate:
    """A grand mean with its two-part interval; all numbers in the unit of the data.

    ``sd`` is the standard deviation of the seeds' means (ddof 1), nan for one seed; ``se`` is
    sqrt(V_s+ + V_i+). ``ci_low``, ``ci_high``, ``se`` and ``p_value`` are nan where no honest value exists,
    and ``lacking`` then says why. ``n_items`` counts items, also where the interval is over clusters of them.
    ``few`` is set where the interval is Wilson's. `estimate_notes` says all this in words.
    """

    value: float
    sd: float
    ci_low: float
    ci_high: float
    n_seeds: int
    n_items: int
    se: float
    p_value: float
    conditional_on: tuple[Condition, ...] = ()
    clusters: Clusters | None = None
    lacking: Lacking = Lacking.NOTHING
    few: Few = Few.NEITHER

    @property
    def half_width(self) -> float:
        """Half the width of the interval, nan where there is none."""
        return (self.ci_high - self.ci_low) / 2


@dataclass(frozen=True)
class Components:
    """The mean and the variances of the mean by source, as in the module's formulas.

    With one seed ``v_seeds`` and ``v_residual`` are nan and ``v_items_plus`` is ``v_items``; with one item
    everything but ``v_seeds`` is nan.
    """

    mean: float
    v_seeds: float
    v_items: float
    v_residual: float
    v_items_plus: float


def variance_parts(D: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Mean, V_s, V_i, V_e, V_i+ of arrays (..., S, n); leading axes are replicates; nothing is checked."""
    S, n = D.shape[-2:]
    mean = D.mean(axis=(-2, -1))
    of_seed = D.mean(axis=-1) - mean[..., None]
    of_item = D.mean(axis=-2) - mean[..., None]
    nan = np.full_like(mean, np.nan)
    v_seeds = (of_seed**2).sum(axis=-1) / (S * (S - 1)) if S > 1 else nan
    v_items = (of_item**2).sum(axis=-1) / (n * (n - 1)) if n > 1 else nan
    if S == 1 or n == 1:
        return mean, v_seeds, v_items, nan, v_items
    # The residuals themselves, not a difference of sums of squares: those cancel where one source dominates.
    residual = D - mean[..., None, None] - of_seed[..., :, None] - of_item[..., None, :]
    v_residual = (residual**2).sum(axis=(-2, -1)) / ((S - 1) * (n - 1) * S * n)
    # Equal up to rounding is equal: else an order of summation would decide between no interval and a tiny one.
    more = v_items - v_residual
    return mean, v_seeds, v_items, v_residual, np.where(more > 1e-12 * v_items, more, 0.0)


def components(D: ArrayLike) -> Components:
    """Variance components of D (S seeds, n items); ValueError for what is not a finite, non-empty matrix."""
    return Components(*(float(part) for part in variance_parts(_matrix(D))))


def seed_variance(v_seeds: ArrayLike, v_residual: ArrayLike, n_seeds: int) -> NDArray[np.float64]:
    """Return V_s, not below what the seed x item noise alone would show in 95 % of studies; elementwise.

    V_s holds V_e once, so even without any effect of the seeds it is V_e chi2(S - 1) / (S - 1). Where all seeds
    happen to score the same count it is exactly 0, and a p-value would then rest on the items alone: of 30 equal
    methods with two seeds some pair was called separated on up to 48 % of boards. 95 % half-widths grow by 0.1 %.
    """
    if n_seeds == 1:
        return np.asarray(v_seeds, dtype=np.float64)
    floor = np.asarray(v_residual, dtype=np.float64) * special.chdtri(n_seeds - 1, 1 - FLOOR_QUANTILE) / (n_seeds - 1)
    return np.asarray(np.fmax(v_seeds, floor))


def half_width(
    v_seeds: ArrayLike, v_items_plus: ArrayLike, n_seeds: ArrayLike, n_items: float, level: float = 0.95
) -> NDArray[np.float64]:
    """sqrt(t(S-1)^2 V_s + t(n-1)^2 V_i+) at a confidence level; elementwise; one seed: the item part alone.

    ``v_seeds`` is what `seed_variance` returns. ``n_seeds`` is one more than its degrees of freedom where they are
    not those of seeds, one number or an array. ``n_items`` is the effective number of clusters where the variances
    are those of clusters.
    """
    _check_level(level)
    return _half_width(np.asarray(v_seeds), np.asarray(v_items_plus), n_seeds, n_items, 1 - level)


def p_value(value: float, v_seeds: float, v_items_plus: float, n_seeds: int, n_items: float) -> float:
    """The two-sided level at which the two-part interval just touches zero (1 for a value of 0).

    Between `SMALLEST_P` and 1; nan for a single item, and where both variances are zero and the value is not.
    """
    if value == 0:
        return 1.0
    v_s, v_i = np.asarray(0.0 if n_seeds == 1 else v_seeds), np.asarray(v_items_plus)
    if not v_s + v_i > 0 or n_items == 1:
        return math.nan

    def excess(log_p: float) -> float:
        width = float(_half_width(v_s, v_i, n_seeds, n_items, math.exp(log_p)))
        return math.log(width) - math.log(abs(value))

    # On the log scale of both axes the function is nearly straight, so few steps reach full precision.
    lowest, highest = math.log(SMALLEST_P), -1e-6
    if excess(lowest) <= 0:
        return SMALLEST_P
    if excess(highest) >= 0:
        return 1.0
    return math.exp(optimize.brentq(excess, lowest, highest, xtol=1e-12, rtol=1e-14))


def two_part(D: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95, test: bool = True) -> Estimate:
    """The mean of D (S seeds, n items) with its two-part interval, and the p-value against zero.

    ``clusters`` names each item's cluster (n labels: speakers, source videos). With at least `MIN_CLUSTERS`
    of them the interval is over clusters (`cluster_values`); with fewer, or where one or two hold nearly all
    items, it is over items and conditional on these clusters. One seed: items only, and it is conditional on
    this trained model. For the worst of M modalities (a maximum, so biased) pass
    ``level = 1 - .05 / M``. Without ``test`` the p-value, which takes a third of the time, is nan.
    """
    _check_level(level)
    matrix = _matrix(D)
    S, n = matrix.shape
    units, count, found = _units(matrix, clusters)
    conditional_on = [Condition.MODEL] if S == 1 else []
    conditional_on += [Condition.CLUSTERS] if found is not None and not found.over else []
    lacking = Lacking.NOTHING
    mean, v_raw, _, v_residual, v_items = (float(part) for part in variance_parts(units))
    v_seeds = float(seed_variance(v_raw, v_residual, S))
    sd = float(matrix.mean(axis=1).std(ddof=1)) if S > 1 else math.nan
    width = se = p = math.nan
    if units.shape[1] == 1:
        lacking = Lacking.ONE_ITEM
    elif _is_nothing((0.0 if S == 1 else v_raw) + v_items, matrix):
        lacking = Lacking.NO_VARIATION
        p = 1.0 if mean == 0 and test else math.nan
    else:
        width = float(half_width(v_seeds, v_items, S, count, level))
        se = math.sqrt(v_items if S == 1 else v_seeds + v_items)
        p = p_value(mean, v_seeds, v_items, S, count) if test else math.nan
    return Estimate(mean, sd, mean - width, mean + width, S, n, se, p, tuple(conditional_on), found, lacking)


def paired_difference(A: ArrayLike, B: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """`two_part` of A - B; both (S, n) with the same seeds and the same items in the same order."""
    return two_part(_difference(A, B), clusters, level)


def cluster_values(D: ArrayLike, clusters: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """Values (S, G), one per cluster, averaging to each seed's mean over *items*; and the effective G.

    For equal sizes these are the cluster means, and the effective number is G. For unequal sizes the item
    mean is a ratio (sum of values over number of items) and is linearised: with size n_g, share
    w_g = n_g / n, seed mean m_s and cluster mean m_sg,

        value[s, g] = m_s + G w_g (m_sg - m_s) * (1 - 1/G) / (1 - w_g), then shifted to have mean m_s

    It is taken around the seed's own mean, or a seed's overall shift would show up as seed x cluster noise.
    The last factor is that of leaving one cluster out: a large cluster pulls the mean towards itself and so
    looks closer than it is. The effective number is Kish's 1 / sum w_g^2, from which the t quantile takes
    its degrees of freedom. Without these two, sizes of 4:1 cover 89-93 % and one cluster as large as all
    others together 76-85 % (nominal 95 %, 6-18 clusters); with them 93-98 %.
    """
    matrix = _matrix(D)
    index, share = _shares(clusters, matrix.shape[1])
    if share.size == 1:
        raise ValueError("a single cluster says nothing about others")
    of_seed = matrix.mean(axis=1, keepdims=True)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(share.size))
    deviation = np.add.reduceat((matrix - of_seed)[:, order], starts, axis=1)
    deviation *= (share.size - 1) / index.size / (1 - share)
    return of_seed + deviation - deviation.mean(axis=1, keepdims=True), float(1 / (share**2).sum())


def pseudo_values(
    metric: Callable[[NDArray[np.generic], NDArray[np.generic]], float], labels: ArrayLike, predictions: ArrayLike
) -> NDArray[np.float64]:
    """Jackknife values (S, n) of a metric that is no mean (macro-F1, ...), ready for `two_part`.

    ``metric(labels, predictions) -> float`` is called on the n labels and one seed's n predictions (further
    axes, such as classes, are kept), and n times with one item left out. The usual pseudo-values
    n theta - (n - 1) theta_without_i are shifted to have mean theta exactly, so that the reported value is
    the metric itself and not its bias-corrected form. For a mean they are the items' own values.
    """
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or predicted.ndim < 2 or predicted.shape[1] != truth.size:
        raise ValueError(f"labels {truth.shape} and predictions {predicted.shape} must be (n,) and (S, n, ...)")
    n = truth.size
    if n < 2:
        raise ValueError("the jackknife needs at least two items")
    keep = ~np.eye(n, dtype=bool)
    out = np.empty((predicted.shape[0], n))
    for s, row in enumerate(predicted):
        without = np.array([metric(truth[k], row[k]) for k in keep], dtype=float)
        out[s] = float(metric(truth, row)) - (n - 1) * (without - without.mean())
    return _matrix(out)


def _half_width(
    v_seeds: NDArray[np.float64], v_items: NDArray[np.float64], n_seeds: ArrayLike, n_items: float, alpha: float
) -> NDArray[np.float64]:
    # special.stdtrit is the quantile behind scipy.stats.t, without its overhead of 50 microseconds a call
    items = -special.stdtrit(n_items - 1, alpha / 2) * np.sqrt(v_items)
    if np.ndim(n_seeds) == 0 and n_seeds == 1:
        return np.asarray(items)
    # hypot, so that the huge quantiles of one degree of freedom do not overflow when squared
    return np.asarray(np.hypot(special.stdtrit(np.asarray(n_seeds) - 1, alpha / 2) * np.sqrt(v_seeds), items))


def _shares(clusters: ArrayLike, n_items: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Each item's cluster number, and each cluster's share of the items."""
    labels = np.asarray(clusters)
    if labels.shape != (n_items,):
        raise ValueError(f"clusters has shape {labels.shape}, expected one label for each of {n_items} items")
    lacking = sum(label is None or label != label for label in labels.tolist())  # NaN is unlike itself
    if lacking:
        raise ValueError(f"{lacking} of {n_items} items have no cluster label (NaN or None)")
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return index, sizes / n_items


def _units(
    matrix: NDArray[np.float64], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], float, Clusters | None]:
    """What varies beside the seeds (items or clusters), how many of them, and the clusters."""
    n = matrix.shape[1]
    if clusters is None:
        return matrix, n, None
    _, share = _shares(clusters, n)
    groups, effective = share.size, float(1 / (share**2).sum())
    if groups < MIN_CLUSTERS or effective < MIN_EFFECTIVE_CLUSTERS:
        return matrix, n, Clusters(groups, effective, over=False)
    return *cluster_values(matrix, clusters), Clusters(groups, effective, over=True)


def _matrix(D: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(D, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"expected a matrix (seeds, items), got {matrix.ndim} dimension(s)")
    if matrix.size == 0:
        raise ValueError(f"expected at least one seed and one item, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{int((~np.isfinite(matrix)).sum())} of {matrix.size} values are not finite")
    return matrix


def _difference(A: ArrayLike, B: ArrayLike) -> NDArray[np.float64]:
    a, b = _matrix(A), _matrix(B)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs the same seeds and items, got shapes {a.shape} and {b.shape}")
    return a - b


def _is_nothing(variance: float, matrix: NDArray[np.float64]) -> bool:
    """Zero up to rounding: the mean of equal numbers need not be exactly that number."""
    return bool(variance <= (64 * np.finfo(float).eps * float(np.abs(matrix).max())) ** 2)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number between 0 and 1")
