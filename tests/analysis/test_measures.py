"""Measures of stored predictions against reference libraries and hand computation, and their rows in the tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FakeMethod, small
from report_rows import bits, folder_of, groups_of, one

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import Head, Row, parse_rows
from mmlbench.results import score
from mmlbench.results.folds import _joined_run
from mmlbench.results.logits_key import LogitsKey
from mmlbench.results.scored_run import ScoredRun
from mmlbench.stats import (
    CrossFit,
    holm,
    probability_best,
    pseudo_values,
    resampled_means,
    shapley,
    subset_name,
    two_part,
)
from mmlbench.storage.atomic import read_arrays
from mmlbench.task import confusion as tables_of
from mmlbench.task.confusion import balanced_accuracy, balanced_of, confusion, f1_of, macro_f1, table_pseudo_values


def some_logits(n: int = 300, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), label] += 1.0
    return logits, label


# ---- equal to reference libraries ------------------------------------------------------------------------------
def test_metrics_equal_scikit_learn() -> None:
    from scipy.special import softmax
    from sklearn import metrics

    logits, label = some_logits()
    predicted = logits.argmax(1)
    assert macro_f1(predicted, label, 5) == pytest.approx(metrics.f1_score(label, predicted, average="macro"))
    wanted = metrics.balanced_accuracy_score(label, predicted)
    assert balanced_accuracy(predicted, label, 5) == pytest.approx(wanted)
    assert score.nll(logits, label) == pytest.approx(metrics.log_loss(label, softmax(logits, axis=1)))
    assert score.item_nll(logits, label).mean() == pytest.approx(score.nll(logits, label))
    assert score.confidence(logits) == pytest.approx(softmax(logits, axis=1).max(1))
    assert (confusion(predicted, label, 5) == metrics.confusion_matrix(label, predicted)).all()


def test_calibration_error_equals_scikit_learns_quantile_bins() -> None:
    from sklearn.calibration import calibration_curve

    logits, label = some_logits(n=600)
    sure, right = score.confidence(logits), logits.argmax(1) == label
    accurate, message = calibration_curve(right, sure, n_bins=15, strategy="quantile")
    assert score.adaptive_ece(sure, right) == pytest.approx(np.abs(accurate - message).mean())  # 600 = 15 x 40


def test_calibration_error_of_corner_cases() -> None:
    assert score.adaptive_ece(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(0.5)
    assert score.adaptive_ece(np.ones(40), np.ones(40, bool)) == 0
    assert score.adaptive_ece(np.array([0.75]), np.array([True])) == pytest.approx(0.25)
    assert np.isnan(score.adaptive_ece(np.zeros(0), np.zeros(0, bool)))


def test_holm_equals_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(2)
    for _ in range(20):
        p = np.round(rng.random(rng.integers(1, 12)) ** 3, 3)
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def game(players: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = [subset_name(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]
    return {name: rng.normal(size=(2, 3)) for name in names}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_shapley_is_the_mean_over_all_orders(count: int) -> None:
    players = ["a", "b", "c", "d", "e", "f"][:count]
    value = game(players)
    slow = {player: np.zeros((2, 3)) for player in players}
    orders = list(permutations(players))
    for order in orders:
        for k, player in enumerate(order):
            before, after = (subset_name([p for p in players if p in order[:stop]]) for stop in (k, k + 1))
            slow[player] += (value[after] - value[before]) / len(orders)
    fast = shapley(value, players)
    for player in players:
        assert fast[player] == pytest.approx(slow[player])
    assert sum(fast.values()) == pytest.approx(value["+".join(players)] - value["none"]), "efficiency"


def test_shapley_equals_shapiq() -> None:
    shapiq = pytest.importorskip("shapiq")
    players = ["a", "b", "c", "d"]
    value = {name: float(v[0, 0]) for name, v in game(players, 5).items()}

    def played(coalitions: np.ndarray) -> np.ndarray:
        names = ["+".join(np.array(players)[row.astype(bool)]) or "none" for row in np.atleast_2d(coalitions)]
        return np.array([value[name] for name in names])

    exact = shapiq.ExactComputer(n_players=4, game=played)(index="SV")
    wanted = {p: exact[(k,)] for k, p in enumerate(players)}
    assert {p: float(v) for p, v in shapley(value, players).items()} == pytest.approx(wanted)


def test_shapley_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"no value for a\+b"):
        shapley({"none": 0.0, "a": 1.0, "b": 1.0}, ["a", "b"])
    with pytest.raises(ValueError, match="at most 6"):
        shapley({}, list("abcdefg"))


@pytest.mark.parametrize("metric", [f1_of, balanced_of])
def test_jackknife_by_cells_equals_leaving_each_sample_out(metric) -> None:
    label = np.random.default_rng(0).integers(0, 4, 60)
    predicted = np.stack([some_logits(60, 4, seed)[0].argmax(1) for seed in (1, 2, 3)])
    fast = table_pseudo_values(metric, label, predicted, 4)
    slow = pseudo_values(lambda t, p: metric(confusion(p, t, 4)[None])[0], label, predicted)
    assert fast == pytest.approx(slow)


@pytest.mark.parametrize("metric", [f1_of, balanced_of])
def test_tables_at_once_give_the_bits_of_each_alone(metric, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    tables = rng.integers(0, 3, (50, 5, 5))
    tables[7] = 0  # nothing is there
    tables[8, 2], tables[8, :, 2] = 0, 0  # a class is not
    alone = np.array([metric(table[None])[0] for table in tables])
    assert np.array_equal(metric(tables), alone, equal_nan=True) and np.isnan(alone[7]) and not np.isnan(alone[8])
    label = rng.integers(0, 4, 60)
    predicted = rng.integers(0, 4, (2, 60))
    whole = table_pseudo_values(metric, label, predicted, 4)
    monkeypatch.setattr(tables_of, "PIECE", 40)
    assert np.array_equal(whole, table_pseudo_values(metric, label, predicted, 4))


# ---- rows ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_runs.small_study(tmp_path_factory.mktemp("measured") / "results")


@pytest.fixture(scope="module")
def rows(written: Path) -> list[Row]:
    return parse_rows(make_frame(written, written.parent / "cache")[0])


def arrays_of(written: Path, method: str, seed: int) -> dict[str, np.ndarray]:
    return read_arrays(folder_of(written, method, seed) / "predictions.npz")


def test_measures_against_hand_computation(rows: list[Row], written: Path) -> None:
    arrays = [arrays_of(written, "joint", seed) for seed in (0, 1, 2)]
    logits, label = [a["last/test/fused"] for a in arrays], arrays[0]["test/label"]
    where = {"table": "measures", "label": "joint", "kind": "fused"}
    f1 = one(rows, metric="macro_f1", **where)
    assert f1.value == pytest.approx(np.mean([macro_f1(z.argmax(1), label, 4) for z in logits]), rel=1e-5)
    assert f1.ci_low < f1.value < f1.ci_high and "jackknife" in f1.note
    nll = one(rows, metric="nll", **where)
    assert nll.value == pytest.approx(np.mean([score.nll(z, label) for z in logits]), rel=1e-5)
    assert nll.unit == "nats" and nll.ci_low is not None
    ece = one(rows, metric="ece", **where)
    wanted = [score.adaptive_ece(score.confidence(z), z.argmax(1) == label) for z in logits]
    assert ece.value == pytest.approx(np.mean(wanted), rel=1e-4) and ece.ci_low is None
    assert one(rows, metric="balanced_accuracy", **where).unit == "fraction"
    assert not [r for r in rows if r.table == "measures" and r.selection == "test"]


def test_classes(rows: list[Row], written: Path) -> None:
    label = arrays_of(written, "joint", 0)["test/label"]
    right = bits(written, "joint", "last/test/fused")
    row = one(rows, "classes", label="joint", modality="class=c2")
    assert row.value == pytest.approx(right[:, label == 2].mean(), rel=1e-5)
    assert row.n_test == (label == 2).sum()


def test_fusion_gain_over_the_best_unimodal_and_the_ensemble(rows: list[Row], written: Path) -> None:
    fused = bits(written, "joint", "last/test/fused")
    heads = {m: bits(written, "unimodal", f"last/test/own_head/{m}") for m in ("audio", "visual")}
    best = max(heads, key=lambda m: heads[m].mean())
    estimate = two_part(100 * (fused - heads[best]), groups_of(written), level=0.975)
    row = one(rows, "fusion_gain", label="joint", baseline="best unimodal")
    assert (row.value, row.ci_low) == pytest.approx((estimate.value, estimate.ci_low), rel=1e-5)
    assert f"unimodal {best}, the best of 2: interval at .05/2" in row.note
    assert row.p_value == pytest.approx(min(1, 2 * estimate.p_value), rel=1e-4)
    over = one(rows, "fusion_gain", label="joint", baseline="ensemble")
    assert over.value == pytest.approx(100 * (fused - bits(written, "ensemble", "last/test/fused")).mean(), rel=1e-5)


def test_reliance_adds_up_and_says_its_rule(rows: list[Row], written: Path) -> None:
    value = {"audio+visual": 100 * bits(written, "joint", "last/test/fused")}
    value |= {s: 100 * bits(written, "joint", f"last/test/fused@mean:{s}") for s in ("audio", "visual", "none")}
    wanted = shapley(value, ["audio", "visual"])
    where = {"table": "reliance", "label": "joint"}
    for m in ("audio", "visual"):
        row = one(rows, metric="shapley@mean", modality=m, **where)
        assert row.value == pytest.approx(wanted[m].mean(), rel=1e-5)
        assert row.head is Head.ADDITIVE
        assert row.p_value is None
    added = one(rows, metric="added@mean", modality="audio", **where)
    assert added.value == pytest.approx((value["audio+visual"] - value["visual"]).mean(), rel=1e-5)
    mixed = one(rows, metric="interaction@mean", **where)
    total = value["audio+visual"] - value["audio"] - value["visual"] + value["none"]
    assert mixed.value == pytest.approx(total.mean(), rel=1e-5)
    assert one(rows, metric="shapley_nll@mean", modality="visual", **where).unit == "nats"


def test_overall_has_ranks_and_scores_without_interval(rows: list[Row]) -> None:
    overall = [row for row in rows if row.table == "overall"]
    assert {row.metric for row in overall} == {"mean_rank", "mean_normalised_score"}
    assert all(row.ci_low is None and "for these datasets only" in row.note for row in overall)
    ranks = [row.value for row in overall if row.metric == "mean_rank"]
    assert sum(ranks) == pytest.approx(len(ranks) * (len(ranks) + 1) / 2)
    assert {row.label for row in overall} == {"ensemble", "joint", "ogm_ge", "di_mml"}
    assert "avdigits/speaker, gabor_nuisance/default" in overall[0].note


def test_one_dataset_has_no_overall(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(), small(split="index")])
    assert not [r for r in parse_rows(make_frame(tmp_path, tmp_path)[0]) if r.table == "overall"]


# ---- folds -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_folds_are_put_together_and_have_an_interval_over_speakers(tmp_path: Path) -> None:
    pairs = (("george", "jackson"), ("lucas", "nicolas"), ("theo", "yweweler"))
    folds = [small(split=f"speaker_rotation.{k}", groups=pair) for k, pair in enumerate(pairs, 1)]
    fake_runs.write_study(tmp_path, folds)
    rows = parse_rows(make_frame(tmp_path, tmp_path)[0])
    assert {row.split for row in rows} == {"speaker_rotation"}
    row = one(rows, label="joint", metric="accuracy", kind="fused", split="speaker_rotation")
    matrix = np.concatenate([bits(tmp_path, "joint", "last/test/fused", split=fold.split) for fold in folds], axis=1)
    groups = np.concatenate([groups_of(tmp_path, fold.split) for fold in folds])
    estimate = two_part(matrix, groups)
    assert (row.value, row.ci_low) == pytest.approx((estimate.value, estimate.ci_low), rel=1e-4)
    assert row.n_test == 240 and "3 folds put together: approximate" in row.note
    assert "6 groups" in row.note or "6 speakers" in row.note
    assert one(rows, "competition_gap", label="joint", metric="gap", modality="visual", split="speaker_rotation")
    cost = [line.split(",") for line in make_frame(tmp_path, tmp_path)[1].splitlines()]
    passes = {line[4]: line[9] for line in cost[1:]}
    assert float(passes["joint"]) == 3 * 500 * 4, "a row of three folds costs three runs"


def test_the_optimism_over_folds_weighs_by_their_test_samples() -> None:
    def fold(samples: int, optimism: float) -> ScoredRun:
        fit = CrossFit(0.8, 0.8 - optimism, optimism, 3)
        return ScoredRun(0, (), {LogitsKey("last"): np.ones(samples, bool)}, {("fused", "fused"): fit})

    joined = _joined_run([fold(10, 0.01), fold(30, 0.03)])
    assert joined.optimism["fused", "fused"].optimism == pytest.approx(0.025)
    assert len(joined.scores[LogitsKey("last")]) == 40


# ---- probability of being best ---------------------------------------------------------------------------------
def five(**changes: object) -> list[fake_runs.FakeGroup]:
    return [small(**{"counts": (20, 450), "groups": (), "seeds": (0, 1, 2, 3, 4), **changes})]


def chances(results: Path) -> dict[str, Row]:
    rows = parse_rows(make_frame(results, results)[0])
    return {row.label: row for row in rows if row.metric == "probability_best"}


@pytest.mark.slow
def test_probability_of_being_best_needs_five_seeds(tmp_path: Path) -> None:
    twin = replace(fake_runs.default_methods()[5], label="twin")
    fake_runs.write_study(tmp_path / "a", five(methods=[*fake_runs.default_methods(), twin]))
    found = chances(tmp_path / "a")
    assert sum(row.value for row in found.values()) == pytest.approx(1, abs=1e-6)
    assert found["joint"].value < 0.01 and found["joint"].ci_low is None
    assert found["twin"].value > 0.01 and found["ensemble"].value > 0.01
    assert chances(tmp_path / "a") == found
    methods = [m for m in fake_runs.default_methods() if m.label in ("joint", "ogm_ge")]
    fake_runs.write_study(tmp_path / "b", five(methods=methods, seeds=(0, 1, 2, 3)))
    assert chances(tmp_path / "b") == {}
    for name, groups in (("two", ("a", "b")), ("eight", tuple("abcdefgh"))):
        fake_runs.write_study(tmp_path / name, five(methods=methods, groups=groups))
    found = chances(tmp_path / "two")["joint"]
    assert (found.conditional_on, found.clusters, found.cluster_name) == (("clusters",), 2, "speaker")
    assert chances(tmp_path / "eight") == {}, "not shown to hold over clusters"


def test_equal_methods_share_the_probability(tmp_path: Path) -> None:
    methods = [FakeMethod(f"m{k}", "joint", accuracy={"fused": 0.7}, params={"k": k}) for k in range(3)]
    fake_runs.write_study(tmp_path, five(methods=methods))
    rows = parse_rows(make_frame(tmp_path, tmp_path)[0])
    values = [r.value for r in rows if r.metric == "probability_best"]
    assert len(values) == 3 and min(values) > 0.02


def test_resampled_means_spread_as_the_interval_does() -> None:
    rng = np.random.default_rng(4)
    item = rng.normal(0, 1, 500)
    data = [rng.normal(0, 0.1, (6, 1)) + item + rng.normal(0, 1, (6, 500)) for _ in range(3)]
    drawn = resampled_means(data, draws=4000)
    for matrix, means in zip(data, drawn, strict=True):
        estimate = two_part(matrix)
        low, high = np.quantile(means, [0.025, 0.975])
        assert (high - low) / 2 == pytest.approx(estimate.half_width, rel=0.15)
        assert means.mean() == pytest.approx(estimate.value, abs=0.1 * estimate.half_width)
    apart = two_part(data[0] - data[1])
    assert (drawn[0] - drawn[1]).std() == pytest.approx(apart.se * np.sqrt(5 / 3), rel=0.25), "t with 5 degrees"
    with pytest.raises(ValueError, match="it takes 5 and 400"):
        probability_best([np.ones((4, 500))])
