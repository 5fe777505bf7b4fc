"""How often the intervals hold the truth, in small simulations; and that the usual rivals would fail here.

The simulation is the one of benchmarks/interval_coverage.py, with fewer replicates and fixed seeds.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from coverage_simulation import sim
from scipy import stats

from mmlbench.stats import compare, components, half_width, intervals, two_part

LOW, HIGH = 0.93, 0.99
KINDS = {
    "accuracy": ((0.65,), (0.005,)),
    "accuracy, seeds differ": ((0.65,), (0.04,)),
    "difference": ((0.68, 0.65), (0.015, 0.015)),
    "gap, unequal": ((0.70, 0.54), (0.01, 0.04)),
}


def setting(kind, seeds, items=400):
    return sim.Setting(kind, seeds, items, *KINDS[kind])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_two_part_covers(kind, seeds):
    share, _ = sim.coverage(sim.two_part_bounds, setting(kind, seeds), 1500, np.random.default_rng(11))
    assert LOW <= share <= HIGH


@pytest.mark.parametrize(("seeds", "highest"), [(3, 0.977), (5, 0.966), (10, 0.9574), (20, 0.9536)])
def test_coverage_in_the_limit_of_many_items(seeds, highest):
    """Exact, by quadrature over the estimated seed variance: it depends on the seeds' share of the variance alone."""
    chi2 = stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, seeds - 1) / (seeds - 1)
    found = []
    for share in np.linspace(0, 1, 41):
        width = half_width(share * chi2, np.full(chi2.size, 1 - share), seeds, 1e9)
        found.append(float((2 * stats.norm.cdf(width) - 1).mean()))
    assert min(found) >= 0.9499 and found[0] == pytest.approx(0.95, abs=1e-4) == found[-1]
    assert max(found) == pytest.approx(highest, abs=5e-4)
    assert max(found) <= (0.985 if seeds < 5 else 0.97)
    normal = [2 * stats.norm.cdf(1.96 * np.sqrt(share * chi2 + 1 - share)) - 1 for share in np.linspace(0, 1, 41)]
    assert min(part.mean() for part in normal) < 0.945, "normal quantiles alone fail this"


@pytest.mark.parametrize(
    ("construction", "seeds", "percent", "wrong"),
    [
        ("two-part", 5, "97.0", False),
        ("two-part", 5, "97.1", True),
        ("two-part", 3, "98.5", False),
        ("two-part", 3, "92.9", True),
        ("nested bootstrap", 5, "70.0", False),
    ],
)
def test_the_benchmark_judges_the_products_interval(construction, seeds, percent, wrong):
    row = {"setting": "accuracy", "construction": construction, "seeds": str(seeds), "percent": percent}
    assert sim.outside(row) == wrong
    clustered = row | {"setting": "6 clusters"}
    assert not sim.outside(clustered), "clusters that were ignored"
    if construction == "two-part":
        assert sim.outside(clustered | {"construction": "two-part, clusters"}) == wrong


def test_the_simulation_measures_the_same_code():
    (D,) = sim.values(np.random.default_rng(1), setting("difference", 3), 4)
    low, high = sim.two_part_bounds(D)
    for k, matrix in enumerate(D):
        e = two_part(matrix)
        assert (low[k], high[k]) == pytest.approx((e.ci_low, e.ci_high))


@pytest.mark.parametrize(
    ("rival", "kind", "items"),
    [
        ("nested_bounds", "accuracy", 400),
        ("nested_bounds", "gap, unequal", 400),
        ("percentile_bounds", "accuracy, seeds differ", 2000),
        ("percentile_bounds", "gap, unequal", 2000),
        ("items_only_bounds", "gap, unequal", 400),
    ],
)
def test_rivals_would_turn_the_coverage_test_red(rival, kind, items):
    where = setting(kind, 3, items)
    bounds = getattr(sim, rival)
    if rival != "items_only_bounds":
        bounds = partial(bounds, rng=np.random.default_rng(5), draws=300)
    share, _ = sim.coverage(bounds, where, 400, np.random.default_rng(11))
    assert share < LOW - 0.02
    share, _ = sim.coverage(sim.two_part_bounds, where, 400, np.random.default_rng(11))
    assert LOW <= share <= HIGH


@pytest.mark.parametrize("unequal", [False, True])
def test_clusters_cover(unequal):
    sizes = (40, 160) * 5 if unequal else (100,) * 10
    clustered = sim.Setting("clusters", 5, 1000, (0.65,), (0.005,), sizes, 0.2)
    share, _ = sim.cluster_coverage(clustered, 600, np.random.default_rng(4))
    assert 0.92 <= share <= HIGH
    ignoring, _ = sim.coverage(sim.two_part_bounds, clustered, 600, np.random.default_rng(4))
    assert ignoring < 0.7


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_methods_are_rarely_separated(seeds, monkeypatch):
    equal = sim.Setting("equal", seeds, 400, (0.65,) * 7, (0.015,) * 7)
    assert sim.false_separations(equal, 200, np.random.default_rng(8)) <= 0.06
    monkeypatch.setattr(compare, "holm", np.asarray)
    assert sim.false_separations(equal, 60, np.random.default_rng(8)) > 0.15, "without Holm it would not hold"


def no_floor(v_seeds, v_residual, n_seeds):
    return v_seeds


@pytest.mark.parametrize(("seeds", "boards"), [(2, 25), pytest.param(3, 25, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_equal_methods_of_a_large_board_are_not_separated_by_ties_over_seeds(seeds, boards, monkeypatch):
    """Of 435 pairs some tie over their few seeds; V_s is then 0, and without its floor p rests on the items alone."""
    equal = sim.Setting("30 equal methods", seeds, 744, (0.65,) * 30, (0.005,) * 30)
    assert sim.false_separations(equal, boards, np.random.default_rng(8)) == 0
    monkeypatch.setattr(intervals, "seed_variance", no_floor)
    if seeds == 2:
        assert sim.false_separations(equal, 12, np.random.default_rng(8)) > 0.25, "red without the floor"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_floor_hardly_widens_an_interval(seeds, monkeypatch):
    (D,) = sim.values(np.random.default_rng(3), setting("difference", seeds, 744), 300)
    floored = np.array([two_part(matrix) for matrix in D])
    assert all((e.p_value < 0.05) == (e.ci_low > 0 or e.ci_high < 0) for e in floored)
    monkeypatch.setattr(intervals, "seed_variance", no_floor)
    plain = np.array([two_part(matrix) for matrix in D])
    ratio = np.array([a.half_width / b.half_width for a, b in zip(floored, plain, strict=True)])
    assert ratio.min() >= 1 and 1 <= ratio.mean() < 1.003


def test_tied_seeds_keep_some_variance():
    D = np.zeros((2, 500))
    D[0, :30], D[1, 15:45] = 1, 1
    c, e = components(D), two_part(D)
    assert c.v_seeds == 0 and c.v_residual > 0
    floor = c.v_residual * stats.chi2.ppf(0.05, 1)
    assert e.se**2 == pytest.approx(floor + c.v_items_plus)
    assert e.half_width == pytest.approx(float(half_width(floor, c.v_items_plus, 2, 500)))


@pytest.mark.slow
@pytest.mark.parametrize("task", sim.TASKS)
def test_the_interval_of_every_metric_holds_in_small(task, monkeypatch):
    truths = sim.metric_truths.__wrapped__(task, 0.1, seeds=100)
    monkeypatch.setattr(sim, "metric_truths", lambda task, spread: truths)
    found = list(sim.metric_coverage(sim.MetricSetting(task, 3, 400, 0.1), 60, np.random.default_rng(3)))
    assert {(name, kind) for name, kind, _, _ in found} == {
        (name, kind) for name in sim.TASKS[task].metrics for kind in ("value", "difference")
    }
    assert all(share >= 0.85 and width > 0 for _, _, share, width in found)


def test_two_seeds_of_a_simulated_metric_share_what_is_hard():
    target, outputs = sim.drawn_outputs(np.random.default_rng(1), sim.MetricSetting("regression", 2, 2000, 0.02))
    error = outputs[0, :, :, 0] - 0.75 * target
    assert outputs.shape == (2, 2, 2000, 1) and 0.6 < np.corrcoef(error)[0, 1] < 0.85


def test_a_metrics_row_is_judged_as_the_products_own():
    row = {"setting": "multilabel: value of map, seeds differ by 0.1", "construction": "two-part, jackknife"}
    assert sim.outside(row | {"seeds": "10", "percent": "92.9"})
    assert not sim.outside(row | {"seeds": "10", "percent": "94.1"})
