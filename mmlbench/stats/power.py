"""How many seeds and test samples it takes to find a difference, under the model behind the two-part interval.

D[s, i] = difference + a_s + b_i + e_si, normal, with variances `seed`, `item` and `noise`. The statistics that the
interval is made of are then drawn directly (their distributions are known), so that a study is planned in a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import components, half_width

#: Correlation of two methods' seed effects: they share initial weights and order.
SEED_CORRELATION = 0.3


@dataclass(frozen=True)
class Spread:
    """Variances of a difference D[s, i], in squared units of D: of seeds, of items, and what is new in each cell."""

    seed: float
    item: float
    noise: float

    @classmethod
    def of_habits(cls, seed_sd: float, disagreement: float, shared: float) -> Spread:
        """Return it from what one knows before a study, in points.

        Args:
            seed_sd: standard deviation over seeds of one method's accuracy, in points.
            disagreement: share of samples that one of two trained models gets right and the other wrong.
            shared: share of that disagreement which the sample itself decides, the same for all seeds.
        """
        single = 100.0**2 * disagreement
        return cls(2 * (1 - SEED_CORRELATION) * seed_sd**2, shared * single, (1 - shared) * single)

    @classmethod
    def of_data(cls, matrices: Iterable[ArrayLike]) -> Spread:
        """Return the median over paired differences (S, n), S at least 2, of their variance components.

        Raises:
            ValueError: no matrix with two seeds and two items.
        """
        found = []
        for matrix in matrices:
            S, n = np.shape(matrix)
            if S < 2 or n < 2:
                continue
            parts = components(matrix)
            noise = parts.v_residual * S * n
            found.append((max(parts.v_seeds * S - noise / n, 0.0), max(parts.v_items * n - noise / S, 0.0), noise))
        if not found:
            raise ValueError("expected a paired difference of at least two seeds")
        return cls(*(float(value) for value in np.median(found, axis=0)))


def _drawn(spread: Spread, seeds: int, items: int, draws: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return drawn (mean - difference, V_s, V_i+), each (draws,)."""
    rng = np.random.default_rng([seed, seeds, items])
    cell = spread.noise / (seeds * items)
    error = rng.standard_normal(draws) * math.sqrt(spread.seed / seeds + spread.item / items + cell)
    v_seeds = (spread.seed / seeds + cell) * rng.chisquare(seeds - 1, draws) / (seeds - 1)
    v_items = (spread.item / items + cell) * rng.chisquare(items - 1, draws) / (items - 1)
    degrees = (seeds - 1) * (items - 1)
    v_noise = cell * rng.chisquare(degrees, draws) / degrees
    return error, v_seeds, np.maximum(v_items - v_noise, 0)


def power(
    difference: float,
    spread: Spread,
    seeds: int,
    items: int,
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
    items: int,
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


def _check(seeds: int, items: int, comparisons: int) -> None:
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
