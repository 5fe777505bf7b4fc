"""How many seeds and test samples it takes to find a difference, under the model behind the two-part interval.

D[s, i] = difference + a_s + b_i + e_si, normal, with variances `seed`, `item` and `noise`. The statistics that the
interval is made of are then drawn directly (their distributions are known), so that a study is planned in a second.
The half-width is drawn too, never put in at its mean: with few seeds it varies so much that a difference of its mean
plus .84 standard errors, the textbook's 80 % power, is found in 51 to 79 % of cases (3 to 10 seeds, 1 to 435 pairs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import _matrix, _units, components, half_width, seed_variance
from .moderated import PairTests, moderate

#: Correlation of two methods' seed effects: they share initial weights and order.
SEED_CORRELATION = 0.3


@dataclass(frozen=True)
class Spread:
    """Variances of a difference D[s, i], in squared units of D: of seeds, of items, and what is new in each cell."""

    seed: float
    item: float
    noise: float

    @classmethod
    def of_habits(cls, seed_sd: float, disagreement: float, shared: float, printed_on: int | None = None) -> Spread:
        """Return it from what one knows before a study, in points.

        Args:
            seed_sd: standard deviation over seeds of one method's accuracy, in points.
            disagreement: share of samples that one of two trained models gets right and the other wrong.
            shared: share of that disagreement which the sample itself decides, the same for all seeds.
            printed_on: test samples on which `seed_sd` was measured. What is printed as a deviation over seeds holds
                the noise of each model on each sample too, which is taken off here; None: `seed_sd` is without it.
        """
        single = 100.0**2 * disagreement
        noise = (1 - shared) * single
        of_one = seed_sd**2 - (noise / 2 / printed_on if printed_on else 0.0)
        return cls(2 * (1 - SEED_CORRELATION) * max(of_one, 0.0), shared * single, noise)

    @classmethod
    def of_data(cls, matrices: Iterable[ArrayLike], clusters: ArrayLike | None = None) -> Spread:
        """Return the mean over paired differences (S, n), S at least 2, of their variance components.

        Means, not medians: a variance of four degrees of freedom has its median 16 % below its mean. Differences in
        which nothing varies (a row and its copy) say nothing and are left out.

        Args:
            clusters: each item's cluster, (n,); where `two_part` has an interval over them, "items" are clusters, in
                their effective number.

        Raises:
            ValueError: no matrix with two seeds and two items that varies.
        """
        found = [parts for matrix in matrices if (parts := _components(matrix, clusters)) is not None]
        if not found:
            raise ValueError("expected a paired difference of at least two seeds")
        return cls(*(max(float(value), 0.0) for value in np.mean(found, axis=0)))


def _components(matrix: ArrayLike, clusters: ArrayLike | None = None) -> tuple[float, float, float] | None:
    """Return unbiased variances of seeds, items and noise, the first two perhaps negative; None without two seeds."""
    units, count, _ = _units(_matrix(matrix), clusters)
    S = len(units)
    if S < 2 or units.shape[1] < 2:
        return None
    parts = components(units)
    noise = parts.v_residual * S * count
    if parts.v_seeds + parts.v_items + noise <= 0:
        return None
    return parts.v_seeds * S - noise / count, parts.v_items * count - noise / S, noise


@dataclass(frozen=True)
class Smallest:
    """The smallest true difference that a table finds with some power, in the unit of its differences.

    Attributes:
        value: from the mean variances of all its differences. low, high: of this and of single ones, each by its own
            variances, which says how well the value is known. seeds, count: of seeds, and of differences.
    """

    value: float
    low: float
    high: float
    seeds: int
    count: int


def resolution(
    matrices: Iterable[ArrayLike], clusters: ArrayLike | None = None, comparisons: int = 1, wanted: float = 0.8
) -> Smallest | None:
    """Return the smallest true difference that paired differences like these (S, n) find with a wanted power.

    None where none has two seeds (nothing is separated) or none varies. Of differences over unequal numbers of seeds
    it is that of the middle one.
    """
    there = [m for m in map(_matrix, matrices) if _components(m, clusters) is not None]
    if not there:
        return None
    seeds = sorted(len(m) for m in there)[(len(there) - 1) // 2]
    items = _units(there[0], clusters)[1]

    def of(some: list[NDArray[np.float64]], draws: int) -> float:
        spread = Spread.of_data(some, clusters)
        return smallest_difference(spread, seeds, items, comparisons, wanted, draws=draws)

    value = of(there, 20_000)
    single = [value, *(of([m], 2000) for m in there)]
    return Smallest(value, min(single), max(single), seeds, len(there))


def moderated_resolution(tests: PairTests, comparisons: int = 1, wanted: float = 0.8) -> Smallest | None:
    """Return the same of a board whose seed variances are moderated, from the tests of its pairs.

    The rows' true variances over seeds are drawn from the prior, what S seeds show of them is drawn around these and
    moderated as in `moderated_pairs`. `low` and `high` are of the pairs with the least and the greatest variance.
    None where no pair has two common seeds.
    """
    items = tests.items
    first, second = np.triu_indices(len(tests.value), 1)
    there = np.isfinite(tests.v_seeds[first, second]) & (tests.v_seeds + tests.v_items > 0)[first, second]
    first, second = first[there], second[there]
    if not first.size:
        return None
    seeds = int(sorted(tests.seeds[first, second])[(first.size - 1) // 2])
    own = float(np.median(tests.variances.own_degrees[np.union1d(first, second)]))
    prior = tests.variances.prior

    def of(variances: tuple[NDArray[np.float64], NDArray[np.float64]], v_items: float, draws: int) -> float:
        rng = np.random.default_rng([0, seeds, draws])
        shown = [v * rng.chisquare(own, draws) / own for v in variances]
        used, degrees = zip(*(moderate(v, np.full(draws, own), prior) for v in shown), strict=True)
        nu = (used[0] + used[1]) ** 2 / (used[0] ** 2 / degrees[0] + used[1] ** 2 / degrees[1])
        item = v_items * rng.chisquare(items - 1, draws) / (items - 1)
        error = rng.standard_normal(draws) * np.sqrt((variances[0] + variances[1]) / seeds + v_items)
        width = half_width((used[0] + used[1]) / seeds, item, nu + 1, items, 1 - 0.05 / comparisons)
        return float(np.quantile(width - error, wanted))

    draws = 20_000
    rng = np.random.default_rng([1, seeds])
    rows = [prior.variance * prior.degrees / rng.chisquare(prior.degrees, draws) for _ in range(2)]
    value = of((rows[0], rows[1]), float(tests.v_items[first, second].mean()), draws)
    order = np.argsort((tests.v_seeds + tests.v_items)[first, second])
    single = [value]
    for place in (order[0], order[-1]):
        a, b = first[place], second[place]
        both = tests.variances.used[a], tests.variances.used[b]
        single.append(of((np.full(2000, both[0]), np.full(2000, both[1])), float(tests.v_items[a, b]), 2000))
    return Smallest(value, min(single), max(single), seeds, first.size)


def _drawn(
    spread: Spread, seeds: int, items: float, draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return drawn (mean - difference, V_s with its floor, V_i+), each (draws,)."""
    rng = np.random.default_rng([seed, seeds, round(items)])
    cell = spread.noise / (seeds * items)
    error = rng.standard_normal(draws) * math.sqrt(spread.seed / seeds + spread.item / items + cell)
    v_seeds = (spread.seed / seeds + cell) * rng.chisquare(seeds - 1, draws) / (seeds - 1)
    v_items = (spread.item / items + cell) * rng.chisquare(items - 1, draws) / (items - 1)
    degrees = (seeds - 1) * (items - 1)
    v_noise = cell * rng.chisquare(degrees, draws) / degrees
    return error, seed_variance(v_seeds, v_noise, seeds), np.maximum(v_items - v_noise, 0)


def power(
    difference: float,
    spread: Spread,
    seeds: int,
    items: float,
    comparisons: int = 1,
    level: float = 0.95,
    draws: int = 20_000,
    seed: int = 0,
) -> float:
    """Return how often a true difference is found: its two-part interval at (1 - level) / comparisons excludes 0.

    Raises:
        ValueError: fewer than two seeds or items.
    """
    _check(seeds, items, comparisons)
    error, v_seeds, v_items = _drawn(spread, seeds, items, draws, seed)
    width = half_width(v_seeds, v_items, seeds, items, 1 - (1 - level) / comparisons)
    return float((difference + error > width).mean())


def smallest_difference(
    spread: Spread,
    seeds: int,
    items: float,
    comparisons: int = 1,
    wanted: float = 0.8,
    level: float = 0.95,
    draws: int = 20_000,
    seed: int = 0,
) -> float:
    """Return the smallest true difference that is found with a wanted power; arguments as of `power`."""
    _check(seeds, items, comparisons)
    error, v_seeds, v_items = _drawn(spread, seeds, items, draws, seed)
    width = half_width(v_seeds, v_items, seeds, items, 1 - (1 - level) / comparisons)
    return float(np.quantile(width - error, wanted))


def _check(seeds: int, items: float, comparisons: int) -> None:
    if seeds < 2 or items < 2 or comparisons < 1:
        raise ValueError(f"{seeds} seeds, {items} items, {comparisons} comparisons: expected at least 2, 2 and 1")


def plan_table(
    difference: float, spread: Spread, seeds: Sequence[int], items: Sequence[int], comparisons: int
) -> list[tuple[int, int, float, float]]:
    """Return rows (seeds, items, power for the difference, smallest difference at 80 % power)."""
    return [
        (
            S,
            n,
            power(difference, spread, S, n, comparisons),
            smallest_difference(spread, S, n, comparisons),
        )
        for n in items
        for S in seeds
    ]
