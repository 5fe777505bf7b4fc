"""Reliance of a head on each modality: exact Shapley values over modality subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: 2^M subsets have to be stored; with more modalities no exact value is computed.
MOST_PLAYERS = 6


def subset_name(present: Sequence[str]) -> str:
    """Return how a subset is named in predictions.npz: 'audio+visual', or 'none'."""
    return "+".join(present) or "none"


def shapley(value: Mapping[str, ArrayLike], players: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return each player's exact Shapley value, elementwise over arrays of one shape.

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)). The values add up to v(all) - v(none).
    As they are linear in v, values per (seed, item) have a mean with a two-part interval.

    Args:
        value: name of each of the 2^M subsets (`subset_name`, in the order of `players`) -> its value.

    Raises:
        ValueError: more than `MOST_PLAYERS` players, or a subset is missing.
    """
    M = len(players)
    if M > MOST_PLAYERS:
        raise ValueError(f"{M} players: exact values for at most {MOST_PLAYERS}")
    names = [subset_name(chosen) for size in range(M + 1) for chosen in combinations(players, size)]
    missing = [name for name in names if name not in value]
    if missing:
        raise ValueError(f"no value for {', '.join(missing)}")
    v = {name: np.asarray(value[name], dtype=np.float64) for name in names}
    found = {}
    for player in players:
        others = [other for other in players if other != player]
        total = np.zeros_like(v[names[-1]])
        for size in range(M):
            for chosen in combinations(others, size):
                joined = [other for other in players if other in chosen or other == player]
                total = total + (v[subset_name(joined)] - v[subset_name(chosen)]) / (M * comb(M - 1, size))
        found[player] = total
    return found
