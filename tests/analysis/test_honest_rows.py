"""Rows whose interval would not hold have none, or another; seeds far from the others are named beside the number."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from coverage_simulation import sim
from fake_runs import small
from report_rows import folder_of, one, rewrite
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.row_builders import within
from mmlbench.analysis.rows import SELECTED_ON_TEST, SMALL_CLASS, Row, parse_rows
from mmlbench.report.difference import _difference
from mmlbench.report.leaderboard import markdown_page, show
from mmlbench.report.notes import far_notes
from mmlbench.report.numbers import with_sd
from mmlbench.report.render.csv import csv_text
from mmlbench.report.render.markdown import markdown
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.competition_gap import competition_gap_table
from mmlbench.results.load import read_plan
from mmlbench.stats import Few, Lacking, far_seeds, probability_best, proportion, resampled_means, two_part, wilson


def rows_of(results: Path) -> list[Row]:
    return parse_rows(make_frame(results, results)[0])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    results = tmp_path_factory.mktemp("honest")
    fake_runs.write_study(results, [small()])
    return rows_of(results)


# ---- picked on the test set ------------------------------------------------------------------------------------
def test_rows_picked_on_the_test_set_have_neither_interval_nor_p(rows: list[Row]) -> None:
    picked = [row for row in rows if row.selection == "test" and row.table != "selection"]
    assert {row.metric for row in picked} >= {"accuracy", "difference", "fusion_gain"}
    for row in picked:
        assert (row.ci_low, row.ci_high, row.se, row.p_value, row.p_adjusted, row.level) == (None,) * 6, row
        assert row.no_interval == ("" if row.by_construction else SELECTED_ON_TEST) and row.value is not None
        assert "interval at" not in row.remarks
    last = [row for row in rows if row.selection == "last" and row.metric == "accuracy" and row.kind == "fused"]
    assert all(row.has_interval and row.level == 0.95 and not row.no_interval for row in last)


# ---- near 0 and 1 ----------------------------------------------------------------------------------------------
def test_wilsons_interval_by_hand() -> None:
    low, high = wilson(0.9, 1.96, 100)
    assert (low, high) == pytest.approx((0.82563, 0.94477), abs=1e-4)
    assert wilson(1.0, 1.96, 100) == pytest.approx((0.96300, 1.0), abs=1e-4)


@pytest.mark.parametrize("right", [0, 1])
def test_wilsons_interval_holds_a_share_of_none_and_of_all(right: int) -> None:
    """An end on the wrong side of the share by a rounding error can't be drawn: the figures stopped the tables."""
    for seeds, items in product((1, 2, 3, 5), range(2, 120)):
        found = proportion(np.full((seeds, items), right))
        assert found.ci_low <= found.value == right <= found.ci_high, (seeds, items)


def test_many_right_and_wrong_keep_the_two_part_interval() -> None:
    rng = np.random.default_rng(0)
    D = (rng.random((5, 400)) < 0.8).astype(float)
    assert proportion(D) == two_part(D)
    near = np.ones((5, 400))
    near[:, :12] = rng.random((5, 12)) < 0.5
    e = proportion(near)
    assert e.ci_high < 1 and e.ci_high - e.value < e.value - e.ci_low, "not symmetric"
    assert e.few is Few.WRONG and e.se == two_part(near).se
    upside_down = proportion(1 - near)
    assert (upside_down.ci_low, upside_down.ci_high) == pytest.approx((1 - e.ci_high, 1 - e.ci_low))
    all_right = proportion(np.ones((3, 50)))
    assert all_right.ci_high == 1 and all_right.ci_low == pytest.approx(wilson(1, 2.0096, 50)[0], abs=1e-4)
    assert all_right.lacking is Lacking.NOTHING
    over = proportion(np.ones((3, 50)), np.arange(50) // 5)
    assert over.ci_low < all_right.ci_low and over.clusters is not None and over.clusters.over
    assert np.isnan(proportion([[1.0]]).ci_low)
    with pytest.raises(ValueError, match="bits"):
        proportion([[0.5, 1.0]])


@pytest.mark.parametrize(
    ("seeds", "items", "accuracy", "plain"),
    [(3, 100, 0.99, 0.92), (5, 100, 0.99, 0.90), (5, 50, 0.95, 0.93), (5, 20, 0.9, 0.91), (5, 400, 0.95, 1.0)],
)
def test_an_accuracy_near_one_is_held(seeds: int, items: int, accuracy: float, plain: float) -> None:
    setting = sim.Setting("near 1", seeds, items, (accuracy,), (0.003,))
    matrices = [D for batch in sim.values(np.random.default_rng(seeds), setting, 500) for D in batch]
    held = [e.ci_low <= setting.truth <= e.ci_high for e in map(proportion, matrices)]
    assert np.mean(held) >= 0.93
    symmetric = [e.ci_low <= setting.truth <= e.ci_high for e in map(two_part, matrices)]
    assert np.mean(symmetric) <= plain


# ---- small classes, bounds -------------------------------------------------------------------------------------
def test_a_small_class_leaves_macro_f1_without_an_interval(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(classes=4, counts=(8, 34), groups=())])
    rows = rows_of(tmp_path)
    for metric in ("macro_f1", "balanced_accuracy"):
        row = one(rows, "measures", label="joint", metric=metric, kind="fused")
        assert row.value is not None and row.sd is not None and row.no_interval == SMALL_CLASS
        assert (row.ci_low, row.se, row.level) == (None, None, None) and "has 8 test samples" in row.note
        assert not [r for r in rows if r.metric == f"resolution@{metric}"]
    assert one(rows, "measures", label="joint", metric="nll", kind="fused").has_interval
    fake_runs.write_study(tmp_path / "more", [small(classes=4, counts=(8, 44), groups=())])
    assert one(rows_of(tmp_path / "more"), "measures", label="joint", metric="macro_f1", kind="fused").has_interval


@pytest.mark.parametrize(
    ("metric", "unit", "wanted"),
    [
        ("nll", "nats", (0.0, 9.0)),
        ("accuracy@mean", "fraction", (0.0, 1.0)),
        ("area@noise", "fraction", (0.0, 1.0)),
        ("balanced_accuracy", "fraction", (0.0, 1.0)),
        ("difference", "points", (-100.0, 9.0)),
        ("shapley_nll@mean", "nats", (-900.0, 9.0)),
        ("retained", "fraction", (-900.0, 9.0)),
    ],
)
def test_no_interval_leaves_the_bounds_of_its_metric(metric: str, unit: str, wanted: tuple[float, float]) -> None:
    assert within(Row("", metric=metric, unit=unit), -900.0, 9.0) == wanted
    assert within(Row("", metric=metric, unit=unit), None, None) == (None, None)


def test_an_nll_of_few_seeds_is_not_below_zero(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(seeds=(0, 1), groups=())])
    rewrite(folder_of(tmp_path, "joint", 0), lambda logits, key: 40 * logits)
    row = one(rows_of(tmp_path), "measures", label="joint", metric="nll", kind="fused")
    assert row.ci_low == 0 < row.value


# ---- two levels, equal rows, labels ----------------------------------------------------------------------------
def test_intervals_of_two_levels_are_never_joined() -> None:
    worst = Row("g", value=5.0, ci_low=1.0, ci_high=9.0, unit="points", level=0.975)
    other = replace(worst, value=2.0, ci_low=1.0, ci_high=3.0, level=1 - 0.05 / 3)
    assert _difference(worst, other).endswith("no interval: theirs are at 97.5 and 98.3 %")
    same = _difference(worst, replace(other, level=0.975))
    assert "[" in same and "told apart" in same
    near = Row("a", value=0.99, ci_low=0.95, ci_high=0.995, unit="fraction", level=0.95)
    assert "[−4.9, +4.2]" not in _difference(near, near)
    below = replace(near, value=0.97, ci_low=0.96, ci_high=0.98)
    assert _difference(near, below).startswith("−2.00 [−3.1, +2.1]"), "each side's own reach"


def test_equal_rows_share_their_draws() -> None:
    rng = np.random.default_rng(4)
    D = (rng.random((5, 500)) < 0.7).astype(float)
    other = (rng.random((5, 500)) < 0.7).astype(float)
    means = resampled_means([D, other, D])
    assert (means[0] == means[2]).all() and means.shape == (3, 2000)
    a, b, c = probability_best([D, other, D])
    pair = probability_best([D, other])
    assert a == c and a + b + c == pytest.approx(1) and b == pytest.approx(pair[1], abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, None])
def test_missing_cluster_labels_are_refused(bad: object) -> None:
    labels = np.array([float(k) for k in range(11)] + [bad], dtype=object)
    with pytest.raises(ValueError, match="1 of 12 items have no cluster label"):
        two_part(np.eye(12)[:3], labels)
    if bad is not None:
        with pytest.raises(ValueError, match="no cluster label"):
            two_part(np.eye(12)[:3], labels.astype(float))


def test_samples_without_a_group_are_no_group(tmp_path: Path) -> None:
    names = ("ann", "", "bob", "", "cid", "", "dan", "")
    fake_runs.write_study(tmp_path, [small(groups=names)])
    rows = rows_of(tmp_path)
    row = one(rows, label="joint", metric="accuracy", kind="fused")
    assert "interval over 44 speakers" in row.note, "four speakers and forty samples of none"
    assert {r.modality for r in rows if r.table == "groups"} == {f"speaker={name}" for name in names if name}


def test_a_large_test_set_of_nearly_as_many_clusters_needs_no_square_table() -> None:
    D = (np.random.default_rng(0).random((3, 60_000)) < 0.5).astype(float)
    assert two_part(D, np.arange(60_000) // 2).half_width > 0


# ---- a seed far from the others --------------------------------------------------------------------------------
def test_a_collapsed_seed_is_found_and_ordinary_ones_are_not() -> None:
    rng, n = np.random.default_rng(1), 744
    hard = rng.random(n)

    def row() -> np.ndarray:
        return (0.7 * hard + 0.3 * rng.random((5, n)) < 0.65 + 0.015 * rng.normal(size=(5, 1))).astype(float)

    named = found = 0
    for _ in range(60):
        board = [row() for _ in range(7)]
        usual = float(np.median([m.mean(axis=1).std(ddof=1) for m in board]))
        named += sum(bool(far_seeds(m, usual)) for m in board)
        board[0][3] = rng.random(n) < 0.25
        found += far_seeds(board[0], usual) == [3]
    assert named / 420 < 0.01 and found / 60 > 0.95
    assert far_seeds(np.eye(2)) == [] and far_seeds(np.ones((4, 9))) == []


def test_a_collapsed_seed_stands_beside_the_number_everywhere(tmp_path: Path, monkeypatch) -> None:
    study = small(seeds=(0, 1, 2, 3, 4), groups=(), methods=fake_runs.default_methods())
    fake_runs.write_study(tmp_path, [study])
    rng = np.random.default_rng(0)
    rewrite(folder_of(tmp_path, "ogm_ge", 3), lambda logits, key: rng.normal(size=logits.shape).astype(np.float32))
    all_tables, cost, pairwise = make_frame(tmp_path, tmp_path)
    rows = parse_rows(all_tables)
    assert one(rows, label="ogm_ge", metric="accuracy", kind="fused").far_seeds == (3,)
    assert one(rows, label="ogm_ge", metric="difference", baseline="joint").far_seeds == (3,)
    assert one(rows, "competition_gap", label="ogm_ge", metric="gap", modality="visual").far_seeds == (3,)
    assert not [row for row in rows if row.far_seeds and row.label != "ogm_ge"]
    result_set = ResultSet.parse(read_plan(tmp_path), all_tables, cost, pairwise)
    group = result_set.groups()[0]
    assert with_sd(result_set.find(group, "ogm_ge", "accuracy")).endswith("(seed 3 far off)")
    assert "seed 3 far off" in markdown([accuracy_table(result_set, group)])
    (note,) = far_notes(result_set, group)
    assert "ogm_ge: seed 3 far off" in note and note in competition_gap_table(result_set, group).notes
    assert ",far_seeds," in csv_text([accuracy_table(result_set, group)])
    assert "seed 3 far off" in markdown_page(result_set, tmp_path, {})
    assert far_notes(ResultSet("x", "last", "joint", [r for r in rows if not r.far_seeds], []), group) == []
    (tmp_path / "all_tables.csv").write_text(all_tables)
    (tmp_path / "cost.csv").write_text(cost)
    (tmp_path / "pairwise.csv").write_text(pairwise)
    console = Console(file=io.StringIO(), width=140)
    show(tmp_path, console)
    assert "(seed 3 far off)" in console.file.getvalue() and "look at its run" in console.file.getvalue()
