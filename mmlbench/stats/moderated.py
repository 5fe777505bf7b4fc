"""Seed variances borrowed across the rows of a large board, and the p-values of all its pairs.

With five seeds a variance over seeds has four degrees of freedom, and Holm over the 780 pairs of forty rows then
separates hardly anything. The rows of a board are trainings of one kind, so that their variances say something of
each other. With m[k, s] the mean of row k with seed s over the items::

    r[k, s] = m[k, s] - m[k, .] - m[., s] + m[., .]     what is left beside rows and seeds
    v[k]    = sum_s r[k, s]^2 / d[k]                    own variance, d = (S - 1)(K - 1) / K degrees
    v~[k]   = (d0 s0^2 + d[k] v[k]) / (d0 + d[k])       moderated, with f[k] = d0 + d[k] degrees
    V_s     = (v~[k] + v~[l]) / S                       of a pair's difference, degrees by Satterthwaite over f
    width   = sqrt(t(degrees)^2 V_s + t(n-1)^2 V_i+)    the rest is as in `intervals`, the floor of V_s too

d0 and s0^2 are the prior of Smyth (2004, Statistical Applications in Genetics and Molecular Biology 3, article 3): v
is s0^2 times an F with d and d0 degrees, and the mean and the variance of log v give both by digamma and trigamma. d0
is at most `MOST_PRIOR`: without that cap up to 15 % of boards with rows that are hardly two held a false separation.

Where rows have other seeds than others, r are the residuals of the least squares fit of rows plus seeds, and d[k] is
the sum of one minus their leverages, which in the whole table is the number above. A row of one seed has no degrees:
it has no variance, lends none and borrows none, and no pair with it has a p-value.

A row whose variance is far above what the prior of the others allows (`SeedVariances.outlying`: mostly a seed that
fell to chance) lends nothing to the prior, and keeps its own variance: it is never smoothed away.

`benchmarks/large_boards.py` measures what holds; docs/protocol.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .intervals import SMALLEST_P, _matrix, _units, seed_variance

#: From so many rows with two seeds or more on, their seed variances are moderated; of fewer the prior is hardly
#: known.
LEAST_ROWS = 10
#: The prior never counts for more degrees than this.
MOST_PRIOR = 8.0
#: How far down its own distribution a variance is believed when the prior is fitted: the logarithm of 0 has no bound.
LOW_QUANTILE = 0.01
#: A row is outlying where its variance is as large in fewer than this share of boards without such a row.
OUTLYING = 0.05
#: At most this share of the rows can be outlying.
MOST_OUTLYING = 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """What the rows of a board tell of a variance: s0^2, as if from `degrees` (d0) degrees of freedom; perhaps
    inf."""

    degrees: float
    variance: float


@dataclass(frozen=True)
class SeedVariances:
    """Variances of one seed's mean by row, each (K,), in squared units of the data.

    Attributes:
        own, own_degrees: v and d; nan and 0 for a row of one seed. prior: of all rows that are not outlying, capped.
        outlying: rows that keep their own variance. used, degrees: v~ and f, or of an outlying row v and d.
    """

    own: Floats
    own_degrees: Floats
    prior: Prior
    outlying: NDArray[np.bool_]
    used: Floats
    degrees: Floats


@dataclass(frozen=True)
class PairTests:
    """All pairs of a board; matrices (K, K) of row minus column.

    Attributes:
        value: the difference of means over the common seeds; nan without one. p_value: two-sided, of this comparison
            alone; 1 for equal means, nan with fewer than two common seeds. v_seeds, v_items: V_s and V_i+.
        degrees: those of V_s. seeds: how many common ones. items: how many items, or effective clusters
            where V_i+ is over these.
    """

    value: Floats
    p_value: Floats
    v_seeds: Floats
    v_items: Floats
    degrees: Floats
    seeds: NDArray[np.intp]
    variances: SeedVariances
    items: float


def is_large(seed_counts: Sequence[int]) -> bool:
    """Whether a board of rows with so many seeds each is one whose seed variances are moderated."""
    return sum(count > 1 for count in seed_counts) >= LEAST_ROWS


def residual_variances(means: ArrayLike) -> tuple[Floats, Floats]:
    """Return v (nan without degrees) and d of the rows of means (K, S), nan where a row lacks a seed."""
    table = np.asarray(means, dtype=np.float64)
    there = np.isfinite(table)
    row, seed = np.nonzero(there)
    cells = np.arange(row.size)
    design = np.zeros((row.size, sum(table.shape)))
    design[cells, row] = design[cells, table.shape[0] + seed] = 1.0
    # The inverse is that of singular values that are not rounding: two blocks without a common seed are no fault.
    projection = design @ np.linalg.pinv(design)
    residual = table[there] - projection @ table[there]
    degrees, squares = np.zeros(table.shape[0]), np.zeros(table.shape[0])
    np.add.at(degrees, row, 1 - np.diag(projection))
    np.add.at(squares, row, residual**2)
    degrees[degrees < 1e-9] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(degrees > 0, squares / degrees, np.nan), degrees


def fit_prior(variances: ArrayLike, degrees: ArrayLike) -> Prior:
    """Return the prior of variances (K,) with their degrees, not capped; all degrees are above 0.

    With e = log v - digamma(d/2) + log(d/2): trigamma(d0/2) = var(e) - mean trigamma(d/2), and log s0^2 = mean(e) +
    digamma(d0/2) - log(d0/2). Where the logarithms vary no more than chance has them vary, d0 is infinite. Values
    below what chance shows in all but `LOW_QUANTILE` of cases, measured from the median, count as that.

    Raises:
        ValueError: fewer than two variances.
    """
    v, half = np.asarray(variances, dtype=np.float64), np.asarray(degrees, dtype=np.float64) / 2
    if v.size < 2:
        raise ValueError(f"{v.size} variance(s): a prior takes two at least")
    # chi-square quantiles over d, relative to the median's
    lowest, middle = (special.gammaincinv(half, q) / half for q in (LOW_QUANTILE, 0.5))
    centre = float(np.median(v / middle))
    if centre <= 0:
        return Prior(math.inf, 0.0)
    e = np.log(np.maximum(v, centre * lowest)) - special.digamma(half) + np.log(half)
    excess = float(e.var(ddof=1) - special.polygamma(1, half).mean())
    if excess <= 0:
        return Prior(math.inf, math.exp(float(e.mean())))
    d0 = 2 * _inverse_trigamma(excess)
    return Prior(d0, math.exp(float(e.mean()) + float(special.digamma(d0 / 2)) - math.log(d0 / 2)))


def _inverse_trigamma(x: float) -> float:
    """Return y with trigamma(y) = x > 0, by the iteration of Smyth (2004), which converges from below."""
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / x) / float(special.polygamma(2, y))
        y += step
        if abs(step) <= 1e-14 * y:
            break
    return y


def moderate(variances: ArrayLike, degrees: ArrayLike, prior: Prior) -> tuple[Floats, Floats]:
    """Return v~ and f; without degrees of the prior a variance stays, with infinitely many it is the prior's."""
    v, d = np.asarray(variances, dtype=np.float64), np.asarray(degrees, dtype=np.float64)
    if math.isinf(prior.degrees):
        return np.full_like(v, prior.variance), np.full_like(d, math.inf)
    return (prior.degrees * prior.variance + d * v) / (prior.degrees + d), prior.degrees + d


def seed_variances(means: ArrayLike) -> SeedVariances:
    """Return the seed variances of a board from the rows' means (K, S), nan where a row lacks a seed.

    Outlying rows are taken out of the fit too: a fallen seed would shift the seed's mean, and with it every residual.
    Theirs are the residuals of a fit of the others and this one.

    Raises:
        ValueError: fewer than two rows have degrees.
    """
    table = np.asarray(means, dtype=np.float64)
    usual = np.flatnonzero(np.isfinite(table).sum(axis=1) > 1)
    most, outlying = int(MOST_OUTLYING * usual.size), np.zeros(len(table), bool)
    own, own_degrees = residual_variances(table)
    while True:
        v, d = residual_variances(table[usual])
        lends = d > 0  # a row that has all its seeds for itself has none, and changes nobody's fit
        usual, v, d = usual[lends], v[lends], d[lends]
        far = _outlying(v, d, most - int(outlying.sum()))
        if not far.any():
            break
        outlying[usual[far]] = True
        usual = usual[~far]
    fitted = fit_prior(v, d)
    prior = Prior(min(fitted.degrees, MOST_PRIOR), fitted.variance)
    own[usual], own_degrees[usual] = v, d
    for k in np.flatnonzero(outlying):
        beside = residual_variances(table[[*usual, k]])
        if beside[1][-1] > 0:  # else no usual row shares its seeds: what the fit of all rows left it stays
            own[k], own_degrees[k] = beside[0][-1], beside[1][-1]
    used, degrees = own.copy(), own_degrees.copy()
    used[usual], degrees[usual] = moderate(v, d, prior)
    return SeedVariances(own, own_degrees, prior, outlying, used, degrees)


def _outlying(v: Floats, d: Floats, most: int) -> NDArray[np.bool_]:
    """Return which variances (K,), at most so many, are far above what the prior of the others allows.

    The largest number of them such that the least is too large for the prior of all that are smaller (as Rosner's
    generalised test has it): a test of the largest alone would miss two that hide each other.
    """
    # from the largest, each against its own distribution: rows of fewer seeds vary more
    order = np.argsort(v / (special.chdtri(d, OUTLYING) / d), kind="stable")[::-1]
    found = np.zeros(v.size, bool)
    for count in range(min(most, v.size - 2), 0, -1):
        least, rest = order[count - 1], order[count:]
        prior = fit_prior(v[rest], d[rest])
        if prior.variance <= 0:
            continue
        d0 = min(prior.degrees, MOST_PRIOR)
        if special.fdtrc(d[least], d0, v[least] / prior.variance) < OUTLYING / v.size:
            found[order[:count]] = True
            break
    return found


def p_values(values: ArrayLike, v_seeds: ArrayLike, v_items: ArrayLike, degrees: ArrayLike, n_items: float) -> Floats:
    """Return `intervals.p_value` of many values at once, with degrees of their own for V_s.

    Solved for the normal quantile z of p: the width as a function of z is convex on a logarithmic scale and starts
    as z se, so that Newton's steps from |value| / se come down to the root. nan where both variances are zero and the
    value is not.
    """
    value, v_s, v_i, nu = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (np.abs(values), v_seeds, v_items, degrees))
    )
    found = np.where(value == 0, 1.0, np.nan)
    open_ = (value > 0) & (v_s + v_i > 0)
    target, a, b, nu = (x[open_] for x in (value, v_s, v_i, nu))
    most = float(-special.ndtri(SMALLEST_P / 2))
    z = np.minimum(target / np.sqrt(a + b), most)
    left = np.arange(z.size)
    for _ in range(60):
        width, slope = _width(z[left], a[left], b[left], nu[left], n_items)
        step = (np.log(width) - np.log(target[left])) * width / (z[left] * slope)
        z[left] = np.minimum(z[left] * np.exp(-step), most)
        left = left[np.abs(step) > 1e-9]  # the next error is the square of this one
        if not left.size:
            break
    found[open_] = np.maximum(2 * special.ndtr(-z), SMALLEST_P)
    return found


def _width(z: Floats, v_seeds: Floats, v_items: Floats, degrees: Floats, n_items: float) -> tuple[Floats, Floats]:
    """Return the half-width at the level of a normal quantile z, and its slope in z."""
    tail = special.ndtr(-z)
    log_normal = -(z**2) / 2 - 0.5 * math.log(2 * math.pi)
    quantiles, slopes = [], []
    for df in (degrees, np.full_like(z, n_items - 1)):
        t = -special.stdtrit(df, tail)
        half = df / 2
        log_t = special.gammaln(half + 0.5) - special.gammaln(half) - 0.5 * np.log(np.pi * df)
        log_t -= (half + 0.5) * np.log1p(t**2 / df)
        quantiles.append(t)
        slopes.append(np.exp(log_normal - log_t))
    width = np.hypot(quantiles[0] * np.sqrt(v_seeds), quantiles[1] * np.sqrt(v_items))
    slope = (quantiles[0] * slopes[0] * v_seeds + quantiles[1] * slopes[1] * v_items) / width
    return width, slope


def moderated_pairs(
    matrices: Sequence[ArrayLike],
    clusters: ArrayLike | None = None,
    seeds: Sequence[Sequence[int]] | None = None,
) -> PairTests:
    """Return the tests of all pairs of K rows, their seed variances moderated.

    Args:
        matrices: (S_k, n) each, the same items. clusters: each item's cluster, as of `two_part`.
        seeds: which seed each line of each matrix is; None where all rows have the same, in the same order.

    Raises:
        ValueError: other items, seeds that are not those of the matrices, or fewer than two rows of two seeds.
    """
    data = [_matrix(matrix) for matrix in matrices]
    names = [tuple(range(len(one))) for one in data] if seeds is None else [tuple(one) for one in seeds]
    if len({one.shape[1] for one in data}) > 1 or [len(one) for one in names] != [len(one) for one in data]:
        raise ValueError("expected matrices of the same items, and a seed for each of their lines")
    if seeds is None and len({len(one) for one in data}) > 1:
        raise ValueError("rows differ in their number of seeds: say which seeds they are")
    if any(len(set(one)) < len(one) for one in names):
        raise ValueError("a row has a seed twice")
    every = sorted({seed for one in names for seed in one})
    means = np.full((len(data), len(every)), np.nan)
    for k, (one, its) in enumerate(zip(data, names, strict=True)):
        means[k, [every.index(seed) for seed in its]] = one.mean(axis=1)
    variances = seed_variances(means)
    units, count = [], 0.0
    for one in data:
        values, count, _ = _units(one, clusters)
        units.append(values)
    K = len(data)
    value, p_value, v_seeds, v_items, degrees = (np.full((K, K), np.nan) for _ in range(5))
    shared_seeds = np.diag([len(one) for one in names])
    tests = PairTests(value, p_value, v_seeds, v_items, degrees, shared_seeds, variances, count)
    np.fill_diagonal(tests.value, 0.0)
    np.fill_diagonal(tests.p_value, 1.0)
    common: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    sets = [frozenset(one) for one in names]
    for a, b in combinations(range(K), 2):
        common.setdefault(tuple(sorted(sets[a] & sets[b])), []).append((a, b))
    for shared, pairs in common.items():
        if shared:
            _fill(tests, units, names, shared, np.array(pairs).T, count)
    return tests


def _fill(
    tests: PairTests,
    units: Sequence[Floats],
    names: Sequence[Sequence[int]],
    shared: tuple[int, ...],
    pairs: NDArray[np.intp],
    count: float,
) -> None:
    """Put the tests of pairs (2, P) with exactly these common seeds into the matrices; `count` is of the units."""
    rows = np.unique(pairs)
    S = len(shared)
    chosen = np.stack([units[k][[list(names[k]).index(seed) for seed in shared]] for k in rows])
    first, second = pairs
    a, b = np.searchsorted(rows, first), np.searchsorted(rows, second)
    value, v_items, v_residual = (found[a, b] for found in _parts(chosen))
    tests.value[first, second], tests.value[second, first] = value, -value
    tests.seeds[first, second] = tests.seeds[second, first] = S
    if S < 2 or chosen.shape[2] < 2:
        return
    used, degrees = tests.variances.used, tests.variances.degrees
    both = used[first] + used[second]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = used[first] ** 2 / degrees[first] + used[second] ** 2 / degrees[second]
        nu = np.where(both > 0, both**2 / shares, S - 1.0)
    v_seeds = seed_variance(both / S, v_residual, S)
    p = p_values(value, v_seeds, v_items, nu, count)
    for matrix, found in (
        (tests.p_value, p),
        (tests.v_seeds, v_seeds),
        (tests.v_items, v_items),
        (tests.degrees, nu),
    ):
        matrix[first, second] = matrix[second, first] = found


def _parts(units: Floats) -> tuple[Floats, Floats, Floats]:
    """Return value, V_i+ and V_e of the difference of each two rows of units (K, S, n), each (K, K).

    The numbers of `intervals.variance_parts` of all differences, from products of the rows with each other: a
    square of a difference is the sum of two squares less twice a product.
    """
    K, S, n = units.shape
    mean = units.mean(axis=(1, 2))
    value = mean[:, None] - mean[None, :]
    if S < 2 or n < 2:
        return value, np.zeros((K, K)), np.zeros((K, K))
    of_item = units.mean(axis=1) - mean[:, None]
    of_seed = units.mean(axis=2) - mean[:, None]
    residual = units - mean[:, None, None] - of_seed[:, :, None] - of_item[:, None, :]
    v_items = _squares(of_item) / (n * (n - 1))
    v_residual = _squares(residual.reshape(K, S * n)) / ((S - 1) * (n - 1) * S * n)
    more = v_items - v_residual
    return value, np.where(more > 1e-12 * v_items, more, 0.0), v_residual


def _squares(rows: Floats) -> Floats:
    """Return the squared distance of each two rows, exactly 0 where they agree up to rounding."""
    products = rows @ rows.T
    own = np.diag(products)
    both = own[:, None] + own[None, :]
    found = both - 2 * products
    return np.where(found > 1e-13 * both, found, 0.0)
