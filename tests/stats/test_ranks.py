"""Rank intervals and compact letters follow from which pairs are separated, and from nothing else."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmlbench.stats import (
    MOST_LETTERED,
    Difference,
    RankInterval,
    all_pairs_groups,
    compact_letters,
    paired_difference,
    rank_intervals,
    separated_pairs,
)

ABC = ["a1", "b2", "c3"]


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[list[str], set[tuple[str, str]]]:
    """Draw methods and which of them are separated; not transitive, as with unequal seeds."""
    names = [f"m{k}" for k in range(draw(st.integers(1, MOST_LETTERED)))]
    pairs = list(combinations(names, 2))
    ways = draw(st.lists(st.integers(0, 2), min_size=len(pairs), max_size=len(pairs)))
    return names, {(pair if way == 1 else pair[::-1]) for pair, way in zip(pairs, ways, strict=True) if way}


@settings(max_examples=300, deadline=None)
@given(comparisons())
def test_two_methods_share_a_letter_if_and_only_if_they_are_not_separated(
    drawn: tuple[list[str], set[tuple[str, str]]],
) -> None:
    names, separated = drawn
    letters = compact_letters(names, separated)
    assert set(letters) == set(names) and all(letters.values())
    for one, other in combinations(names, 2):
        apart = (one, other) in separated or (other, one) in separated
        assert bool(set(letters[one]) & set(letters[other])) != apart
    broken = {**letters, names[0]: ""}
    assert len(names) == 1 or broken != letters, "a method without a letter would be seen"


@settings(max_examples=300, deadline=None)
@given(comparisons())
def test_a_rank_interval_counts_what_is_separated(drawn: tuple[list[str], set[tuple[str, str]]]) -> None:
    names, separated = drawn
    ranks = rank_intervals(names, separated)
    for name, rank in ranks.items():
        assert 1 <= rank.low <= rank.high <= rank.of == len(names)
        assert rank.low == 1 + len([pair for pair in separated if pair[1] == name])
        assert rank.of - rank.high == len([pair for pair in separated if pair[0] == name])
    for better, worse in separated:
        assert ranks[better].high < len(names) and ranks[worse].low > 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 7))
def test_the_lower_end_is_the_rank_group(seed: int, seeds: int, methods: int) -> None:
    rng = np.random.default_rng(seed)
    hard = rng.random(60)
    data = [(hard + 0.2 * rng.random((seeds, 60)) < 0.5 + 0.1 * k).astype(float) for k in range(methods)]
    data[-1] = data[0] if seed % 3 == 0 else data[-1]  # equal methods now and then
    names = [f"m{k}" for k in range(methods)]
    differences = []
    for (a, first), (b, second) in combinations(zip(names, data, strict=True), 2):
        found = paired_difference(first, second)
        p = None if seeds == 1 or np.isnan(found.p_value) else found.p_value
        differences.append(Difference(a, b, found.value, p))
    ranks = rank_intervals(names, separated_pairs(differences))
    assert {one.name: one.group for one in all_pairs_groups(names, data)} == {k: v.low for k, v in ranks.items()}


def test_a_chain_has_overlapping_letters() -> None:
    separated = {("a1", "c3")}
    assert compact_letters(ABC, separated) == {"a1": "a", "b2": "ab", "c3": "b"}
    assert rank_intervals(ABC, separated) == {
        "a1": RankInterval(1, 2, 3),
        "b2": RankInterval(1, 3, 3),
        "c3": RankInterval(2, 3, 3),
    }
    assert compact_letters(ABC, set()) == dict.fromkeys(ABC, "a")


def test_p_values_are_corrected_for_the_pairs_that_are_given() -> None:
    one = Difference("a1", "b2", -2.0, 0.03)
    assert separated_pairs([one]) == {("b2", "a1")}
    assert separated_pairs([one, Difference("a1", "c3", 1.0, 0.9)]) == set(), "0.03 of two comparisons"
    assert separated_pairs([Difference("a1", "b2", 0.0, 0.0), Difference("a1", "c3", 1.0, None)]) == set()
    assert separated_pairs([]) == set()


def test_too_many_methods_have_no_letters() -> None:
    names = [f"m{k}" for k in range(MOST_LETTERED + 1)]
    assert compact_letters(names, set()) == {} and len(compact_letters(names[1:], set())) == MOST_LETTERED


@pytest.mark.parametrize("call", [rank_intervals, compact_letters])
def test_strange_names_are_refused(call) -> None:
    with pytest.raises(ValueError, match="occurs twice"):
        call(["a1", "a1"], set())
    with pytest.raises(ValueError, match="not among"):
        call(ABC, {("a1", "d4")})
