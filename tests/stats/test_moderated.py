"""Moderated seed variances: closed forms, limits, and what is never smoothed away."""

from __future__ import annotations

import importlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from mmlbench.stats import (
    LEAST_ROWS,
    MOST_PRIOR,
    Difference,
    Prior,
    benjamini_hochberg,
    components,
    fit_prior,
    holm,
    is_large,
    moderate,
    moderated_pairs,
    moderated_resolution,
    possible_bests,
    rank_intervals,
    residual_variances,
    resolution,
    seed_variance,
    seed_variances,
    separated_pairs,
    two_part,
)
from mmlbench.stats.intervals import p_value
from mmlbench.stats.moderated import p_values

moderated = importlib.import_module("mmlbench.stats.moderated")


def board(rows: int = 12, seeds: int = 4, items: int = 60, start: int = 0, sd: float = 0.2) -> np.ndarray:
    """Return correctness (rows, seeds, items) of rows that are about equally good, seeds some points apart."""
    rng = np.random.default_rng(start)
    hard, of_seed = rng.standard_normal(items), sd * rng.standard_normal((rows, seeds, 1))
    return (hard + of_seed + rng.standard_normal((rows, seeds, items)) > -0.4).astype(float)


def table(rows: int, seeds: int, start: int = 0) -> np.ndarray:
    return np.random.default_rng(start).normal(0.6, 0.02, (rows, seeds))


# ---- the variances -----------------------------------------------------------------------------------------------
def test_the_residual_variances_of_a_board_by_hand():
    """Means of rows .7, .5, .45, of seeds .5, .6, of all .55; so the residuals are -.05, .05; .05, -.05; 0, 0."""
    variances, degrees = residual_variances([[0.6, 0.8], [0.5, 0.5], [0.4, 0.5]])
    assert degrees == pytest.approx([2 / 3] * 3)  # (2 - 1)(3 - 1) / 3
    assert variances == pytest.approx([0.0075, 0.0075, 0])  # .005 / (2 / 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 10_000))
def test_rows_and_seeds_themselves_leave_no_residual(rows: int, seeds: int, start: int):
    means = table(rows, seeds, start)
    variances, degrees = residual_variances(means)
    assert degrees == pytest.approx([(seeds - 1) * (rows - 1) / rows] * rows)
    rng = np.random.default_rng(start)
    shifted, same = residual_variances(means + rng.random((rows, 1)) + rng.random((1, seeds)))
    assert shifted == pytest.approx(variances, rel=1e-6, abs=1e-15) and same == pytest.approx(degrees)
    assert residual_variances(100 * means)[0] == pytest.approx(1e4 * variances, rel=1e-6)
    mean = means.mean(1, keepdims=True) + means.mean(0, keepdims=True) - means.mean()
    assert variances * degrees == pytest.approx(((means - mean) ** 2).sum(1), rel=1e-6, abs=1e-15)


def test_the_variances_of_many_rows_are_those_that_they_were_drawn_with():
    rng = np.random.default_rng(3)
    sd = np.array([1.0] * 20 + [3.0] * 20)
    found = np.mean(
        [
            residual_variances(sd[:, None] * rng.standard_normal((40, 4)) + rng.standard_normal((1, 4)))[0]
            for _ in range(400)
        ],
        axis=0,
    )
    assert found[:20].mean() == pytest.approx(1.1, abs=0.1) and found[20:].mean() == pytest.approx(8.8, abs=0.4)


# ---- the prior ---------------------------------------------------------------------------------------------------
def prior_by_hand(variances: np.ndarray, degrees: np.ndarray) -> Prior:
    """Solve Smyth's two equations by bisection."""
    e = np.log(variances) - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = e.var(ddof=1) - special.polygamma(1, degrees / 2).mean()
    half = optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e6, xtol=1e-14)
    return Prior(2 * half, float(np.exp(e.mean() + special.digamma(half) - np.log(half))))


@pytest.mark.parametrize("start", range(5))
def test_the_prior_is_that_of_smyth(start):
    rng = np.random.default_rng(start)
    degrees = np.resize([3.9, 3.9, 1.95], 60)
    variances = 2.0 * stats.f.rvs(degrees, 3.0, random_state=rng)
    variances = np.maximum(variances, 0.15 * np.median(variances))  # above the floor of the logarithms
    wanted, found = prior_by_hand(variances, degrees), fit_prior(variances, degrees)
    assert (found.degrees, found.variance) == pytest.approx((wanted.degrees, wanted.variance), rel=1e-9)


def test_the_prior_finds_what_variances_were_drawn_from():
    rng = np.random.default_rng(0)
    found = fit_prior(2.0 * stats.f.rvs(6, 5, size=20_000, random_state=rng), np.full(20_000, 6.0))
    assert found.degrees == pytest.approx(5, rel=0.3) and found.variance == pytest.approx(2, rel=0.1)


def test_variances_that_differ_as_by_chance_have_a_prior_without_end():
    equal = fit_prior([2.0] * 12, [4.0] * 12)
    assert np.isinf(equal.degrees)
    assert equal.variance == pytest.approx(2.0 * np.exp(np.log(2) - special.digamma(2)))
    assert np.isinf(fit_prior([0.0] * 12, [4.0] * 12).degrees) and fit_prior([0.0] * 12, [4.0] * 12).variance == 0
    with pytest.raises(ValueError, match="two at least"):
        fit_prior([1.0], [4.0])


def test_a_variance_of_zero_does_not_decide_the_prior():
    rng = np.random.default_rng(2)
    variances = 2.0 * stats.chi2.rvs(4, size=20, random_state=rng) / 4
    with_zero = fit_prior([*variances, 0.0], [4.0] * 21)
    assert np.isfinite(with_zero.variance) and with_zero.variance == pytest.approx(2, rel=0.5)
    assert with_zero.degrees > 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20), st.floats(0.1, 50), st.floats(0.01, 100))
def test_moderation_lies_between_own_and_prior(variances: list[float], d0: float, variance: float):
    degrees = np.linspace(1, 5, len(variances))
    used, sums = moderate(variances, degrees, Prior(d0, variance))
    assert sums == pytest.approx(d0 + degrees)
    low, high = np.minimum(variances, variance), np.maximum(variances, variance)
    assert ((low * (1 - 1e-9) <= used) & (used <= high * (1 + 1e-9))).all()
    own, alone = moderate(variances, degrees, Prior(0.0, variance))
    assert own == pytest.approx(variances) and alone == pytest.approx(degrees)
    pooled, endless = moderate(variances, degrees, Prior(np.inf, variance))
    assert pooled == pytest.approx([variance] * len(variances)) and np.isinf(endless).all()
    near = moderate(variances, degrees, Prior(1e12, variance))[0]
    assert near == pytest.approx(pooled, rel=1e-6)


def test_the_prior_counts_for_eight_degrees_at_most():
    found = seed_variances(np.resize([0.59, 0.61, 0.60, 0.60, 0.61, 0.59], (12, 4)) + table(12, 4) / 10)
    assert found.prior.degrees == MOST_PRIOR and not found.outlying.any()
    assert found.degrees == pytest.approx(MOST_PRIOR + found.own_degrees)
    expected = (MOST_PRIOR * found.prior.variance + found.own_degrees * found.own) / found.degrees
    assert found.used == pytest.approx(expected)


# ---- rows that are unlike the others -----------------------------------------------------------------------------
@pytest.mark.parametrize("fallen", [1, 2])
def test_a_fallen_seed_is_named_and_not_smoothed_away(fallen, monkeypatch):
    means = table(14, 5)
    without = seed_variances(means[fallen:])
    for k in range(fallen):
        means[k, k] = 0.1
    found = seed_variances(means)
    assert np.flatnonzero(found.outlying).tolist() == list(range(fallen))
    assert found.prior == without.prior and found.used[fallen:] == pytest.approx(without.used), "the others' own"
    assert found.used[:fallen] == pytest.approx(found.own[:fallen])
    assert found.used[0] == pytest.approx(means[0].var(ddof=1), rel=0.2)
    monkeypatch.setattr(moderated, "_outlying", lambda v, d, most: np.zeros(v.size, bool))
    smoothed = seed_variances(means)
    assert smoothed.used[0] < 0.8 * found.used[0], "red without"
    assert smoothed.used[fallen:].mean() > 1.3 * found.used[fallen:].mean()


def test_ordinary_rows_are_rarely_named():
    named = [seed_variances(table(20, 5, start)).outlying.mean() for start in range(30)]
    assert np.mean(named) < 0.01


def test_rows_with_other_seeds_and_with_one():
    D = board()
    whole = moderated_pairs(list(D))
    matrices, seeds = list(D), [(0, 1, 2, 3)] * 12
    matrices[0], seeds[0] = D[0, 1:3], (1, 2)
    matrices[1], seeds[1] = D[1, :1], (0,)
    found = moderated_pairs(matrices, seeds=seeds)
    assert found.seeds[0].tolist() == [2, 0, *[2] * 10] and found.seeds[1, 2] == 1
    assert (
        np.isnan(found.p_value[1]).sum() == 11 and np.isnan(found.value[0, 1]) and found.variances.own_degrees[1] == 0
    )
    assert found.value[0, 2] == pytest.approx(D[0, 1:3].mean() - D[2, 1:3].mean())
    assert found.variances.own_degrees[0] < found.variances.own_degrees[2] < 3
    rest = moderated_pairs([matrices[0], *matrices[2:]], seeds=[seeds[0], *seeds[2:]])
    assert rest.p_value[0, 1:] == pytest.approx(found.p_value[0, 2:]), "a row of one seed lends nothing"
    assert found.p_value[5, 6] != whole.p_value[5, 6]
    alone = moderated_pairs([D[0], *D[1:]], seeds=[(7, 8, 9, 10), *[(0, 1, 2, 3)] * 11])
    assert np.isnan(alone.p_value[0, 1:]).all() and np.isfinite(alone.p_value[1:, 1:]).all(), "no seed in common"


def test_rows_whose_seeds_no_usual_row_shares_keep_a_variance():
    means = np.full((12, 10), np.nan)
    means[:10, :5] = table(10, 5)
    means[10:, 5:] = table(2, 5, 1)
    means[11, 7] = 0.1
    found = seed_variances(means)
    assert np.isfinite(found.used).all() and np.isfinite(found.prior.variance)
    usual = seed_variances(means[:10, :5])
    assert found.used[:10] == pytest.approx(usual.used, rel=0.5), "two rows beside do not decide the others'"
    D = np.repeat(means[:, :, None], 400, axis=2) + np.random.default_rng(0).normal(0, 0.3, (12, 10, 400))
    seeds = [(0, 1, 2, 3, 4)] * 10 + [(5, 6, 7, 8, 9)] * 2
    tested = moderated_pairs([row[:5] if k < 10 else row[5:] for k, row in enumerate(D)], seeds=seeds)
    assert tested.p_value[10, 11] > 0.05, "a seed that fell lies between the two"


def test_a_board_is_large_by_its_rows_of_two_seeds():
    assert is_large([2] * LEAST_ROWS) and not is_large([2] * (LEAST_ROWS - 1) + [1] * 5) and not is_large([])


# ---- the tests of pairs ------------------------------------------------------------------------------------------
def test_the_p_values_are_those_of_the_scalar_solver():
    rng = np.random.default_rng(1)
    value = np.concatenate([10 ** rng.uniform(-5, 2, 300), [0.0, 1.0, 1.0]]) * rng.choice([-1, 1], 303)
    v_seeds = np.concatenate([10 ** rng.uniform(-4, 0, 300), [1.0, 0.0, 1e-300]])
    v_items = np.concatenate([10 ** rng.uniform(-4, 0, 300), [1.0, 0.0, 0.0]])
    degrees = rng.integers(1, 40, 303)
    found = p_values(value, v_seeds, v_items, degrees, 744)
    wanted = [p_value(*one, 744) for one in zip(value, v_seeds, v_items, (degrees + 1).tolist(), strict=True)]
    assert found == pytest.approx(wanted, rel=1e-9, nan_ok=True) and found[300] == 1 and np.isnan(found[301])


@pytest.mark.parametrize("clustered", [False, True])
def test_each_pair_is_the_two_part_construction_with_moderated_variances(clustered):
    D = board()
    clusters = np.arange(60) % 10 if clustered else None
    tests = moderated_pairs(list(D), clusters)
    v = tests.variances
    for a, b in combinations(range(4), 2):
        pair = two_part(D[a] - D[b], clusters)
        units = moderated._units(D[a] - D[b], clusters)[0]
        parts = components(units)
        assert tests.value[a, b] == pytest.approx(pair.value) == pytest.approx(-tests.value[b, a])
        assert tests.v_items[a, b] == pytest.approx(parts.v_items_plus, rel=1e-9, abs=1e-15)
        v_seeds = max((v.used[a] + v.used[b]) / 4, float(seed_variance(0.0, parts.v_residual, 4)))
        assert tests.v_seeds[a, b] == pytest.approx(v_seeds)
        degrees = (v.used[a] + v.used[b]) ** 2 / (v.used[a] ** 2 / v.degrees[a] + v.used[b] ** 2 / v.degrees[b])
        assert tests.degrees[a, b] == pytest.approx(degrees) and degrees > 3
        wanted = p_value(pair.value, v_seeds, parts.v_items_plus, degrees + 1, tests.items)
        assert tests.p_value[a, b] == pytest.approx(wanted) == tests.p_value[b, a]
    assert tests.items == pytest.approx(10 if clustered else 60)


def test_ties_over_seeds_keep_the_floor(monkeypatch):
    D = board(rows=10, seeds=2)
    monkeypatch.setattr(moderated, "seed_variances", lambda means: still(len(means)))
    tests = moderated_pairs(list(D))
    floor = seed_variance(0.0, components(D[0] - D[1]).v_residual, 2)
    assert tests.v_seeds[0, 1] == pytest.approx(float(floor)) and floor > 0
    monkeypatch.setattr(moderated, "seed_variance", lambda v, residual, seeds: v)
    assert moderated_pairs(list(D)).v_seeds[0, 1] == 0, "red without it"


def still(rows: int) -> moderated.SeedVariances:
    """Return variances of rows whose seeds do nothing."""
    nothing = np.zeros(rows)
    return moderated.SeedVariances(nothing, nothing + 1, Prior(8.0, 0.0), nothing > 0, nothing, nothing + 9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_and_the_unit_of_the_rows_make_no_difference(start: int):
    D = board(rows=10, seeds=3, items=40, start=start)
    order = np.random.default_rng(start).permutation(10)
    tests, other = moderated_pairs(list(D)), moderated_pairs(list(100 * D[order]))
    assert other.p_value == pytest.approx(tests.p_value[np.ix_(order, order)], rel=1e-6)
    assert (np.diag(tests.p_value) == 1).all() and tests.value == pytest.approx(-tests.value.T)


def test_a_row_and_its_copy_are_not_separated():
    D = board()
    D[3] = D[7]
    tests = moderated_pairs(list(D))
    assert tests.p_value[3, 7] == 1 and tests.value[3, 7] == 0 == tests.v_items[3, 7]


def test_bad_boards_are_refused():
    D = board()
    with pytest.raises(ValueError, match="same items"):
        moderated_pairs([D[0], D[1][:, 1:]])
    with pytest.raises(ValueError, match="say which seeds"):
        moderated_pairs([D[0], D[1][1:]])
    with pytest.raises(ValueError, match="twice"):
        moderated_pairs([D[0], D[1]], seeds=[(0, 1, 2, 2), (0, 1, 2, 3)])
    with pytest.raises(ValueError, match="a seed for each"):
        moderated_pairs([D[0], D[1]], seeds=[(0, 1), (0, 1, 2, 3)])


# ---- what follows from them --------------------------------------------------------------------------------------
def test_borrowing_finds_what_own_variances_miss():
    D = board(rows=14, seeds=3, items=700, sd=0.04)
    D[0] = np.where(np.random.default_rng(1).random(D[0].shape) < 0.4, 1.0, D[0])
    tests = moderated_pairs(list(D))
    p = np.array([tests.p_value[0, k] for k in range(1, 14)])
    own = np.array([two_part(D[0] - D[k]).p_value for k in range(1, 14)])
    assert (holm(p) < 0.01).all() and np.median(p / own) < 1e-3
    pairs = 14 * 13 // 2
    found = moderated_resolution(tests, pairs)
    before = resolution([D[a] - D[b] for a, b in combinations(range(4), 2)], None, pairs)
    assert found is not None and before is not None
    assert found.low <= found.value <= found.high and found.value < 0.6 * before.value
    assert found.seeds == 3 and found.count == pairs


def test_the_resolution_is_found_in_four_of_five_boards():
    rng = np.random.default_rng(5)
    rows, seeds, items, hits = 10, 5, 300, []
    for _ in range(50):
        D = rng.standard_normal((rows, seeds, items)) + 0.1 * rng.standard_normal((rows, seeds, 1))
        tests = moderated_pairs(list(D))
        found = moderated_resolution(tests, 45)
        assert found is not None
        D[0] += found.value
        hits.append(float((moderated_pairs(list(D)).p_value[0, 1:] < 0.05 / 45).mean()))
    assert np.mean(hits) == pytest.approx(0.8, abs=0.1)


def test_what_may_be_the_best():
    names = [f"m{k}" for k in range(11)]
    differences = [Difference(a, b, 1.0, 0.5) for a, b in combinations(names, 2)]
    assert possible_bests(names, differences) == names
    just = 2 * 0.05 / 10  # one-sided, over the ten that could beat it
    for p, out in ((just * 0.99, True), (just * 1.01, False)):
        assert ("m3" not in possible_bests(names, [*differences, Difference("m0", "m3", 1.0, p)])) == out
        assert ("m0" not in possible_bests(names, [*differences, Difference("m0", "m3", -1.0, p)])) == out
    assert possible_bests(names, [Difference("m0", "m3", 0.0, 0.0), Difference("m0", "m4", 1.0, None)]) == names
    assert possible_bests(["alone"], []) == ["alone"]
    with pytest.raises(ValueError, match="not among"):
        possible_bests(names, [Difference("m0", "z", 1.0, 0.0)])
    with pytest.raises(ValueError, match="twice"):
        possible_bests(["a", "a"], [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_benjamini_hochberg_is_scipys_and_never_above_holm(p: list[float]):
    found = benjamini_hochberg(p)
    assert found == pytest.approx(stats.false_discovery_control(p))
    assert (found <= holm(p) + 1e-12).all()


def test_benjamini_hochberg_refuses_what_is_no_p_value_and_separates_more():
    for bad in ([1.1], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            benjamini_hochberg(bad)
    names = ["a", "b", "c"]
    differences = [Difference("a", "b", 1.0, 0.03), Difference("a", "c", 1.0, 0.03), Difference("b", "c", 1.0, 0.03)]
    assert separated_pairs(differences) == set()
    more = separated_pairs(differences, benjamini_hochberg)
    assert len(more) == 3 and rank_intervals(names, more)["a"].high == 1
