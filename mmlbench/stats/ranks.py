"""What an all-pairs comparison says of each method: the ranks that it can have, and letters for what is alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .compare import holm

#: A difference whose adjusted p-value is below this separates two methods.
ALPHA = 0.05
#: More methods than this get no letters: they would be many, and hard to read.
MOST_LETTERED = 10
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: (better, worse): two methods that are separated.
Separated = Collection[tuple[str, str]]


@dataclass(frozen=True)
class RankInterval:
    """The ranks that a method can have among `of` methods: no better than `low`, no worse than `high`.

    Attributes:
        low: 1 + the number of methods that are better and separated; the rank group of `all_pairs_groups`.
        high: `of` minus the number of methods that are worse and separated.
    """

    low: int
    high: int
    of: int


@dataclass(frozen=True)
class Difference:
    """A paired difference first - second, more is better, and its p-value; None where it has none (one seed)."""

    first: str
    second: str
    value: float
    p_value: float | None


def separated_pairs(
    differences: Sequence[Difference], adjust: Callable[[ArrayLike], NDArray[np.float64]] = holm
) -> set[tuple[str, str]]:
    """Return (better, worse) of each two methods that Holm over all these differences separates.

    The same rule as in `all_pairs_groups`: a difference without a p-value counts with p = 1, and one of exactly 0
    separates nothing.

    Args:
        adjust: another correction in place of Holm's, such as `benjamini_hochberg`.
    """
    if not differences:
        return set()
    adjusted = adjust([1.0 if one.p_value is None else one.p_value for one in differences])
    found = set()
    for one, p in zip(differences, adjusted, strict=True):
        if p < ALPHA and one.value:
            found.add((one.first, one.second) if one.value > 0 else (one.second, one.first))
    return found


def possible_bests(names: Sequence[str], differences: Iterable[Difference]) -> list[str]:
    """Return, in the given order, which of K methods may be the best: none beats it one-sided at .05 / (K - 1).

    The best one is left out in at most 5 % of cases, of whichever methods it is compared with, since K - 1 can beat
    it. The first of the observed order is always among them. A difference without a p-value leaves none out.

    Raises:
        ValueError: a name occurs twice, or a difference names a method that is not among `names`.
    """
    beaten = set()
    for one in differences:
        if one.p_value is not None and one.value and one.p_value / 2 < ALPHA / (len(names) - 1):
            beaten.add((one.first, one.second) if one.value > 0 else (one.second, one.first))
    _check(names, beaten)
    worse = {loser for _, loser in beaten}
    return [name for name in names if name not in worse]


def rank_intervals(names: Sequence[str], separated: Separated) -> dict[str, RankInterval]:
    """Return the ranks that each method can have, given which are separated.

    Raises:
        ValueError: a name occurs twice, or a pair names a method that is not among `names`.
    """
    _check(names, separated)
    better = {name: sum(worse == name for _, worse in separated) for name in names}
    worse = {name: sum(ahead == name for ahead, _ in separated) for name in names}
    return {name: RankInterval(1 + better[name], len(names) - worse[name], len(names)) for name in names}


def compact_letters(names: Sequence[str], separated: Separated) -> dict[str, str]:
    """Return the letters of each method: two methods share a letter if and only if they are not separated.

    A letter is a largest set of methods of which no two are separated; sets that the others make needless are left
    out. Letters are given in the order of `names`: the first method has an `a`. {} for more than `MOST_LETTERED`.

    Raises:
        ValueError: as of `rank_intervals`.
    """
    _check(names, separated)
    if len(names) > MOST_LETTERED:
        return {}
    apart = {frozenset(pair) for pair in separated}
    place = {name: k for k, name in enumerate(names)}
    alike = {
        name: {other for other in names if other != name and frozenset((name, other)) not in apart} for name in names
    }
    sets = sorted(_cliques(alike), key=lambda one: sorted(place[name] for name in one))
    for one in sorted(sets, key=len):  # the smallest go first, so that few and large sets stay
        others = [other for other in sets if other != one]
        if _parts(one) <= {part for other in others for part in _parts(other)}:
            sets.remove(one)
    return {
        name: "".join(letter for letter, one in zip(LETTERS, sets, strict=False) if name in one) for name in names
    }


def _check(names: Sequence[str], separated: Separated) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names, {len(set(names))} of them different: a name occurs twice")
    strange = {name for pair in separated for name in pair} - set(names)
    if strange:
        raise ValueError(f"separated methods that are not among the names: {', '.join(sorted(strange))}")


def _parts(one: Iterable[str]) -> set[frozenset[str]]:
    """Return what a set of methods stands for: each of them, and each two of them."""
    return {frozenset((name,)) for name in one} | {frozenset(pair) for pair in combinations(one, 2)}


def _cliques(alike: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return every largest set of methods in which each two are alike (Bron and Kerbosch 1973)."""
    found: list[frozenset[str]] = []

    def grow(inside: frozenset[str], possible: set[str], done: set[str]) -> None:
        if not possible and not done:
            found.append(inside)
        for name in sorted(possible):
            grow(inside | {name}, possible & alike[name], done & alike[name])
            possible = possible - {name}
            done = done | {name}

    grow(frozenset(), set(alike), set())
    return found
