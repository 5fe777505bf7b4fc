"""Intervals for crossed seeds and items: exact values, properties, bad input, comparisons of methods.

How often the intervals hold the truth is measured in test_interval_coverage.py.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mmlbench.stats import (
    SMALLEST_P,
    Clusters,
    Components,
    Condition,
    Lacking,
    all_pairs_groups,
    cluster_values,
    components,
    cross_fit_optimism,
    half_width,
    holm,
    p_value,
    paired_difference,
    proportion,
    pseudo_values,
    two_part,
)


def slow_components(D):
    """The formulas again, one sum at a time."""
    S, n = len(D), len(D[0])
    mean = sum(D[s][i] for s in range(S) for i in range(n)) / (S * n)
    of_seed = [sum(D[s][i] for i in range(n)) / n for s in range(S)]
    of_item = [sum(D[s][i] for s in range(S)) / S for i in range(n)]
    v_seeds = sum((m - mean) ** 2 for m in of_seed) / (S * (S - 1))
    v_items = sum((m - mean) ** 2 for m in of_item) / (n * (n - 1))
    squares = sum((D[s][i] - of_seed[s] - of_item[i] + mean) ** 2 for s in range(S) for i in range(n))
    v_residual = squares / ((S - 1) * (n - 1)) / (S * n)
    return Components(mean, v_seeds, v_items, v_residual, max(v_items - v_residual, 0))


def slow_width(v_seeds, v_items, S, n, level):
    a = stats.t.ppf((1 + level) / 2, S - 1) ** 2 * v_seeds
    return math.sqrt(a + stats.t.ppf((1 + level) / 2, n - 1) ** 2 * v_items)


def random_bits(shape, seed=0, rate=0.6):
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=shape[1])
    return (rng.normal(size=shape) + difficulty + stats.norm.ppf(rate) > 0).astype(float)


# --- exact values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2), (2, 7), (3, 5), (5, 40), (9, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_interval_is_the_slow_restatement(shape, seed):
    D = random_bits(shape, seed) - 0.4 * random_bits(shape, seed + 50)
    slow = slow_components(D.tolist())
    got = components(D)
    for name in ("mean", "v_seeds", "v_items", "v_residual", "v_items_plus"):
        assert getattr(got, name) == pytest.approx(getattr(slow, name), abs=1e-15)
    for level in (0.8, 0.95, 0.999):
        width = slow_width(slow.v_seeds, slow.v_items_plus, *shape, level)
        e = two_part(D, level=level)
        assert (e.ci_low, e.ci_high) == pytest.approx((slow.mean - width, slow.mean + width))
        assert e.se == pytest.approx(math.sqrt(slow.v_seeds + slow.v_items_plus))
        assert e.sd == pytest.approx(np.std([sum(row) / len(row) for row in D], ddof=1))


def test_hand_computed():
    # seed means 1/2, 1/4; item means 1, 1/2, 0, 0; residuals -1/8, 3/8, -1/8, -1/8 and their negatives
    D = [[1, 1, 0, 0], [1, 0, 0, 0]]
    c = components(D)
    assert c == Components(3 / 8, 1 / 64, pytest.approx(11 / 192), 1 / 64, pytest.approx(1 / 24))
    e = two_part(D)
    width = math.sqrt(12.7062047**2 / 64 + 3.1824463**2 / 24)
    assert e.half_width == pytest.approx(width, rel=1e-7)
    assert (e.value, e.n_seeds, e.n_items) == (0.375, 2, 4)
    assert (e.conditional_on, e.clusters, e.lacking, e.few) == ((), None, "", "")
    assert e.sd == pytest.approx(0.25 / math.sqrt(2))


def test_the_residual_variance_is_never_taken_from_the_seeds():
    D = np.array([[1, 0, 0, 1], [0, 1, 1, 0]]) + np.array([[0.1], [0.0]])
    c = components(D)
    assert c.v_residual > c.v_items and c.v_items_plus == 0
    assert two_part(D).half_width == pytest.approx(12.7062047 * math.sqrt(c.v_seeds))


@pytest.mark.parametrize("value", [0.3, 0.03, -0.02, 0.001])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_p_value_is_where_the_interval_touches_zero(value, seeds):
    p = p_value(value, 1e-4, 2e-4, seeds, 500)
    assert 0 < p < 1
    assert half_width(1e-4, 2e-4, seeds, 500, level=1 - p) == pytest.approx(abs(value), rel=1e-9)


def test_p_value_at_its_ends():
    assert p_value(0.0, 1.0, 1.0, 3, 10) == 1.0
    assert p_value(1e-12, 1.0, 1.0, 3, 10) == 1.0
    assert p_value(5.0, 1e-9, 1e-9, 40, 10_000) == SMALLEST_P
    assert math.isnan(p_value(1.0, 0.0, 0.0, 3, 10))
    D = random_bits((4, 90))
    assert two_part(D).p_value == two_part(D).p_value


def test_an_interval_excludes_zero_exactly_where_p_is_below_its_level():
    for seed in range(20):
        e = paired_difference(random_bits((4, 150), seed, 0.6), random_bits((4, 150), seed + 99, 0.52))
        assert (e.ci_low > 0 or e.ci_high < 0) == (e.p_value < 0.05)


# --- little data, odd data, bad data ----------------------------------------------------------------------


@pytest.mark.parametrize("D", [np.eye(3, 8), np.zeros((3, 8)), np.ones((2, 8)), np.eye(1, 8)])
def test_without_a_test_only_the_p_value_is_lacking(D):
    plain, tested = two_part(D, test=False), two_part(D)
    assert math.isnan(plain.p_value)
    np.testing.assert_equal(vars(dataclasses.replace(plain, p_value=tested.p_value)), vars(tested))
    assert math.isnan(proportion(D, test=False).p_value)


def test_one_seed_gives_the_item_interval_of_this_trained_model():
    bits = random_bits((1, 200))
    e = two_part(bits)
    width = stats.t.ppf(0.975, 199) * bits[0].std(ddof=1) / math.sqrt(200)
    assert e.half_width == pytest.approx(width)
    assert math.isnan(e.sd) and e.conditional_on == (Condition.MODEL,)


def test_one_item_or_nothing_that_varies_has_no_interval():
    for D in ([[0.5], [0.7]], [[1.0]]):
        e = two_part(D)
        assert math.isnan(e.ci_low) and math.isnan(e.p_value) and e.lacking is Lacking.ONE_ITEM
    for constant in (1.0, 0.1, -0.3):
        e = two_part(np.full((3, 77), constant))
        assert e.value == pytest.approx(constant) and math.isnan(e.ci_high) and math.isnan(e.p_value)
        assert e.lacking is Lacking.NO_VARIATION
    assert two_part(np.zeros((3, 7))).p_value == 1.0
    assert math.isnan(two_part([[1, 0], [0, 1]]).ci_low), "varies, but neither between seeds nor between items"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([[1.0, math.nan], [0, 1]], "1 of 4 values are not finite"),
        ([[1.0, math.inf]], "not finite"),
        ([1.0, 0.0], "1 dimension"),
        (np.zeros((2, 2, 2)), "3 dimension"),
        (np.zeros((0, 4)), "at least one"),
        (np.zeros((3, 0)), "at least one"),
    ],
)
def test_bad_matrices_are_errors(bad, says):
    for function in (two_part, components, cross_fit_optimism):
        with pytest.raises(ValueError, match=says):
            function(bad)


def test_other_bad_input():
    D = random_bits((3, 8))
    for level in (0, 1, 95, -0.1):
        with pytest.raises(ValueError, match="level"):
            two_part(D, level=level)
    with pytest.raises(ValueError, match=r"\(3, 8\) and \(3, 7\)"):
        paired_difference(D, D[:, :7])
    with pytest.raises(ValueError, match=r"\(3, 8\) and \(2, 8\)"):
        paired_difference(D, D[:2])
    with pytest.raises(ValueError, match="one label for each of 8 items"):
        two_part(D, clusters=[1, 2, 3])
    with pytest.raises(ValueError, match="single cluster"):
        cluster_values(D, ["a"] * 8)
    with pytest.raises(ValueError, match="2 items"):
        cross_fit_optimism([[1.0], [0.0]])
    for p in ([-0.1], [1.1], [math.nan], [[0.1]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm(p)


# --- properties -------------------------------------------------------------------------------------------

matrices = st.tuples(st.integers(2, 5), st.integers(2, 9)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def same(a, b, flip=1.0, scale=1.0, shift=0.0):
    low, high = (a.ci_low, a.ci_high) if flip > 0 else (a.ci_high, a.ci_low)
    want = [scale * flip * x + shift for x in (a.value, low, high)] + [scale * a.sd, scale * a.se]
    got = [b.value, b.ci_low, b.ci_high, b.sd, b.se]
    assert got == pytest.approx(want, nan_ok=True, abs=1e-9, rel=1e-9)


@quick
@given(matrices, st.floats(-50, 50))
def test_translation_moves_the_interval(D, shift):
    same(two_part(D), two_part(D + shift), shift=shift)


@quick
@given(matrices, st.floats(0.01, 100))
def test_scaling_scales_it_and_leaves_p(D, scale):
    same(two_part(D), two_part(scale * D), scale=scale)
    assert two_part(scale * D).p_value == pytest.approx(two_part(D).p_value, nan_ok=True, rel=1e-6, abs=1e-9)


@quick
@given(matrices, st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_items_is_irrelevant(D, random):
    rows, columns = list(range(D.shape[0])), list(range(D.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    same(two_part(D), two_part(D[rows][:, columns]))


@quick
@given(matrices, st.randoms(use_true_random=False))
def test_swapping_methods_flips_signs(D, random):
    B = np.array([[random.randint(0, 1) for _ in row] for row in D])
    same(paired_difference(D, B), paired_difference(B, D), flip=-1.0)
    assert paired_difference(B, D).p_value == pytest.approx(paired_difference(D, B).p_value, nan_ok=True)


@quick
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_between_the_raw_and_the_bonferroni_values(p):
    adjusted = holm(p)
    assert all(a >= b and a <= min(1, len(p) * b) + 1e-15 for a, b in zip(adjusted, p, strict=True))
    assert sorted(adjusted) == [a for _, a in sorted(zip(p, adjusted, strict=True))]


# --- clusters and other metrics ---------------------------------------------------------------------------


def test_equal_clusters_are_their_means():
    D = random_bits((4, 60))
    labels = np.arange(60) % 10
    means = np.stack([D[:, labels == g].mean(axis=1) for g in range(10)], axis=1)
    values, effective = cluster_values(D, labels)
    assert values == pytest.approx(means) and effective == pytest.approx(10)
    a, b = two_part(D, labels), two_part(means)
    assert (a.ci_low, a.ci_high, a.p_value) == pytest.approx((b.ci_low, b.ci_high, b.p_value))
    assert a.n_items == 60 and a.clusters == Clusters(10, pytest.approx(10), over=True)


def test_unequal_clusters_keep_the_item_mean_of_every_seed():
    D = random_bits((3, 100))
    labels = np.repeat(list("abcdefgh"), [30, 20, 10, 10, 10, 10, 5, 5])
    values, effective = cluster_values(D, labels)
    assert values.mean(axis=1) == pytest.approx(D.mean(axis=1))
    assert effective == pytest.approx(1 / sum(x * x for x in (0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05)))
    e = two_part(D, labels)
    assert e.value == pytest.approx(D.mean()) and e.clusters == Clusters(8, effective, over=True)
    # the slow way: leave one cluster out, n values of the mean, their spread
    for s in range(3):
        without = np.array([D[s, labels != g].mean() for g in "abcdefgh"])
        assert values[s] == pytest.approx(D[s].mean() - 7 * (without - without.mean()))


def test_an_overall_seed_shift_is_no_cluster_noise():
    D = np.tile(random_bits((1, 90)), (3, 1)) + np.array([[0.0], [0.1], [0.3]])
    labels = np.repeat(np.arange(9), [2, 2, 2, 4, 10, 10, 20, 20, 20])
    assert components(cluster_values(D, labels)[0]).v_residual == pytest.approx(0, abs=1e-20)


def test_few_or_dominated_clusters_condition_on_them():
    D = random_bits((3, 100))
    plain = two_part(D)
    five = two_part(D, np.arange(100) % 5)
    assert (five.ci_low, five.p_value) == (plain.ci_low, plain.p_value)
    assert five.conditional_on == (Condition.CLUSTERS,) and five.clusters == Clusters(5, pytest.approx(5), over=False)
    for clusters, count in ((np.zeros(100), 1), (np.maximum(np.arange(100) - 92, 0), 8)):
        e = two_part(D, clusters)
        assert e.conditional_on == (Condition.CLUSTERS,) and e.clusters is not None and e.clusters.count == count
    assert two_part(D[:1], np.arange(100) % 5).conditional_on == (Condition.MODEL, Condition.CLUSTERS)
    assert two_part(D[:1], np.arange(100) % 20).conditional_on == (Condition.MODEL,)


def macro_f1(labels, predictions):
    scores = [
        2 * np.sum((labels == c) & (predictions == c)) / (np.sum(labels == c) + np.sum(predictions == c))
        for c in (0, 1, 2)
    ]
    return float(np.mean(scores))


def test_pseudo_values():
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=60)
    guess = np.where(rng.random((2, 60)) < 0.7, labels, rng.integers(3, size=(2, 60)))
    accuracy = pseudo_values(lambda a, b: float(np.mean(a == b)), labels, guess)
    assert accuracy == pytest.approx((guess == labels).astype(float)), "for a mean, the items' own values"
    values = pseudo_values(macro_f1, labels, guess)
    assert values.mean(axis=1) == pytest.approx([macro_f1(labels, row) for row in guess])
    a, b = (macro_f1(np.delete(labels, k), np.delete(guess[1], k)) for k in (4, 40))
    assert values[1, 4] - values[1, 40] == pytest.approx(-59 * (a - b))
    for bad in (guess[0], guess[:, :-1]):
        with pytest.raises(ValueError, match="must be"):
            pseudo_values(macro_f1, labels, bad)
    with pytest.raises(ValueError, match="two items"):
        pseudo_values(macro_f1, labels[:1], guess[:, :1])


# --- comparisons ------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1]) and holm([0.2]) == pytest.approx([0.2])
    assert holm([]).size == 0


@pytest.mark.parametrize("seed", range(6))
def test_groups_follow_their_definition(seed):
    rates = [0.70, 0.55, 0.62, 0.66, 0.72]
    data = [random_bits((4, 500), seed, rate) for rate in rates]  # one difficulty per item: paired
    names = list("abcde")
    ranked = all_pairs_groups(names, data)
    assert [r.mean for r in ranked] == sorted((d.mean() for d in data), reverse=True)
    pairs = [(a, b) for a in range(5) for b in range(a)]
    p = dict(zip(pairs, holm([paired_difference(data[a], data[b]).p_value for a, b in pairs]), strict=True))
    for r in ranked:
        k = names.index(r.name)
        better = [j for j in range(5) if data[j].mean() > data[k].mean()]
        assert r.group == 1 + sum(p[max(j, k), min(j, k)] < 0.05 for j in better)
        best = names.index(ranked[0].name)
        assert r.p_against_best == pytest.approx(1.0 if k == best else p[max(best, k), min(best, k)])
    upside_down = all_pairs_groups(names, [1 - d for d in data], higher_is_better=False)
    assert [(r.name, r.group) for r in upside_down] == [(r.name, r.group) for r in ranked]


def test_groups_are_not_transitive_and_share_numbers():
    # three levels; neighbours differ by noise, the ends by more: 1, 1, 2
    rng = np.random.default_rng(0)
    base = rng.random((4, 1000))
    data = [base + shift + 0.5 * rng.normal(size=base.shape) for shift in (0.0, -0.025, -0.05)]
    ranked = all_pairs_groups(["top", "middle", "low"], data)
    assert [(r.name, r.group) for r in ranked] == [("top", 1), ("middle", 1), ("low", 2)]


def test_groups_at_their_edges():
    D = random_bits((1, 100))
    ranked = all_pairs_groups(["bad", "good"], [0 * D, D])
    assert [(r.name, r.group) for r in ranked] == [("good", 1), ("bad", 1)]
    assert all(r.conditional_on == (Condition.MODEL,) for r in ranked)
    assert all_pairs_groups([], []) == []
    (alone,) = all_pairs_groups(["alone"], [random_bits((3, 9))])
    assert (alone.group, alone.p_against_best, alone.conditional_on, alone.lacking) == (1, 1.0, (), "")
    D = random_bits((3, 100))
    twins = all_pairs_groups(["b", "a"], [D, D])
    assert [(r.name, r.group, r.p_against_best) for r in twins] == [("b", 1, 1.0), ("a", 1, 1.0)]
    shifted = all_pairs_groups(["up", "down"], [D + 0.5, D])
    assert [r.group for r in shifted] == [1, 1] and shifted[1].lacking is Lacking.NO_VARIATION
    with pytest.raises(ValueError, match="1 different"):
        all_pairs_groups(["a", "a"], [D, D])
    with pytest.raises(ValueError, match="same seeds"):
        all_pairs_groups(["a", "b"], [D, D[:, 1:]])


def test_cross_fit_scores_every_item_once_where_one_epoch_wins_everywhere():
    correct = np.zeros((4, 21))
    correct[2] = 1
    result = cross_fit_optimism(correct)
    assert (result.naive, result.cross_fit, result.optimism, result.epoch) == (1, 1, 0, 2)
    assert cross_fit_optimism(np.ones((3, 5))).epoch == 0, "ties go to the earlier epoch"


@quick
@given(arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(2, 9))), st.integers(0, 5))
def test_cross_fit_is_deterministic_and_never_negative(correct, seed):
    result = cross_fit_optimism(correct, seed, repeats=7)
    assert result == cross_fit_optimism(correct, seed, repeats=7)
    assert result.naive == pytest.approx(correct.mean(axis=1).max()) and result.optimism >= -1e-12


@quick
@given(arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(2, 40))))
def test_cross_fit_of_bits_is_that_of_the_same_numbers(correct):
    """Bits are summed in float32, numbers in float64."""
    assert cross_fit_optimism(correct, repeats=7) == cross_fit_optimism(correct.astype(np.float64), repeats=7)


def test_cross_fit_recovers_the_bias_of_picking():
    rng = np.random.default_rng(2)
    results = [cross_fit_optimism(rng.random((20, 300)) < 0.6, repeats=20) for _ in range(200)]
    assert np.mean([r.naive for r in results]) > 0.64, "twenty equal epochs: picking looks like five points"
    assert np.mean([r.cross_fit for r in results]) == pytest.approx(0.6, abs=0.006)
