"""From run folders to tables: the dense check, the values against hand computation, and what readers see."""

from __future__ import annotations

import html
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FakeMethod, small
from report_rows import bits, folder_of, groups_of, one
from rich.console import Console

from mmlbench.analysis.all_tables import Group, make_frame
from mmlbench.analysis.competition_gap import ratio
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import Row, parse_rows
from mmlbench.errors import DataError
from mmlbench.report import make_all
from mmlbench.report.leaderboard import show
from mmlbench.report.notes import ONE_OF_ALL
from mmlbench.report.summary import headline_of
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.results.load import read_plan
from mmlbench.results.verify import verify_run
from mmlbench.stats import all_pairs_groups, cross_fit_optimism, paired_difference, proportion, two_part
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_runs.small_study(tmp_path_factory.mktemp("study") / "results")


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "results"))


@pytest.fixture(scope="module")
def rows(written: Path) -> list[Row]:
    return parse_rows(make_frame(written, written.parent / "cache")[0])


def logit_mean_bits(results: Path) -> np.ndarray:
    """Return correctness (seeds, n) of the mean of joint's and the two unimodal models' logits."""
    found = []
    for seed in (0, 1, 2):
        joint = read_arrays(folder_of(results, "joint", seed) / "predictions.npz")
        alone = read_arrays(folder_of(results, "unimodal", seed) / "predictions.npz")
        parts = [joint["last/test/fused"], *(alone[f"last/test/own_head/{m}"] for m in ("audio", "visual"))]
        found.append(np.mean(np.array(parts, np.float64), axis=0).argmax(1) == joint["test/label"])
    return np.array(found, dtype=float)


def test_the_logit_mean_of_joint_and_unimodal_is_a_row_of_its_own(rows: list[Row], written: Path) -> None:
    wanted = logit_mean_bits(written)
    row = one(rows, label="joint + unimodal", metric="accuracy", kind="fused")
    assert row.value == pytest.approx(wanted.mean(), rel=1e-5) and row.rank_group is None
    assert "not ranked" in row.note and row.method == "logit_mean"
    row = one(rows, label="di_mml", metric="difference", baseline="joint + unimodal")
    ours = bits(written, "di_mml", "last/test/fused")
    assert row.value == pytest.approx(100 * (ours - wanted).mean(), abs=1e-4) and row.p_value is not None


# ---- the dense check -------------------------------------------------------------------------------------------


def test_every_unusable_run_is_listed_with_its_command(study: Path) -> None:
    shutil.rmtree(folder_of(study, "joint", 1))
    (folder_of(study, "ogm_ge", 0) / "run.json").rename(folder_of(study, "ogm_ge", 0) / "checkpoint.npz")
    file = folder_of(study, "di_mml", 2) / "predictions.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError) as error:
        make_frame(study, study / "cache")
    text = str(error.value)
    assert text.startswith("3 of 48 planned runs can't be used")
    assert "avdigits/speaker joint seed 1: missing (mmlbench train --dataset avdigits --method joint --seed 1" in text
    assert "ogm_ge seed 0: unfinished" in text
    assert "predictions.npz is truncated or was changed" in text
    assert "\n" not in text
    assert not (study / "all_tables.csv").exists()


def test_a_long_list_is_cut_and_counted(study: Path) -> None:
    shutil.rmtree(study / "runs")
    with pytest.raises(DataError, match=r"48 of 48 planned runs can't be used.*; and 38 more"):
        make_frame(study, study / "cache")


def edit(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)
    fake_runs.seal(path.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"code": {"method": "a" * 16, "engine": "e" * 16, "version": "0"}},
            "stale, made by other code of the method",
        ),
        ({"schema": 1}, "unknown schema 1"),
        ({"requires": {"unimodal": {"run": "RUN", "run_hash": "0" * 64}}}, "its unimodal run was made anew"),
    ],
)
def test_stale_runs_are_refused(study: Path, changes: dict, message: str) -> None:
    folder = folder_of(study, "joint", 0)
    if "requires" in changes:
        changes["requires"]["unimodal"]["run"] = str(folder_of(study, "unimodal", 0).relative_to(study))
    edit(folder / "run.json", **changes)
    with pytest.raises(DataError, match=f"1 of 48.*{message}"):
        make_frame(study, study / "cache")


def test_another_configuration_or_other_data_are_refused(study: Path) -> None:
    fake_runs.write_manifest(study / "cache")
    make_frame(study, study / "cache")
    one_, other, aside = folder_of(study, "joint", 0), folder_of(study, "joint", 1), study / "aside"
    one_.rename(aside)
    other.rename(one_)
    aside.rename(other)
    with pytest.raises(DataError, match=r"2 of 48.*joint seed 0: it holds another run, runs/.*/joint/s1-"):
        make_frame(study, study / "cache")
    faults = verify_run(one_, study)
    assert len(faults) == 1 and "its folder was moved, or swapped with another" in faults[0]
    fake_runs.write_manifest(study / "cache", fingerprint="changed")
    with pytest.raises(DataError, match="stale, made from other data than the prepared cache"):
        make_frame(study, study / "cache")


def test_runs_of_other_test_samples_are_not_compared(study: Path) -> None:
    folder = folder_of(study, "joint", 0)
    arrays = read_arrays(folder / "predictions.npz")
    arrays["test/label"] = arrays["test/label"][::-1].copy()
    write_arrays(folder / "predictions.npz", arrays)
    fake_runs.seal(folder)
    with pytest.raises(DataError, match="compared but were made with different test samples or labels"):
        make_frame(study, study / "cache")


def test_nan_logits_name_the_run(study: Path) -> None:
    folder = folder_of(study, "joint", 0)
    arrays = read_arrays(folder / "probe.npz")
    arrays["last/audio/test"][0] = np.nan
    write_arrays(folder / "probe.npz", arrays)
    fake_runs.seal(folder)
    with pytest.raises(DataError, match=r"speaker/joint/s0-.*probe last/audio/test is NaN"):
        make_frame(study, study / "cache")


def test_an_empty_results_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no plan\.json\. Run: snakemake"):
        make_frame(tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"all_tables\.csv is missing\. Make it with: mmlbench tables"):
        ResultSet.open(tmp_path)


# ---- values ----------------------------------------------------------------------------------------------------
def test_accuracy_and_its_interval(rows: list[Row], written: Path) -> None:
    estimate = proportion(bits(written, "joint", "last/test/fused"), groups_of(written))
    row = one(rows, label="joint", metric="accuracy", kind="fused")
    assert row.value == pytest.approx(estimate.value, rel=1e-5)
    assert (row.ci_low, row.ci_high) == pytest.approx((estimate.ci_low, min(estimate.ci_high, 1)), rel=1e-5)
    assert row.sd == pytest.approx(bits(written, "joint", "last/test/fused").mean(1).std(ddof=1), rel=1e-5)
    assert (row.n_seeds, row.n_test, row.unit) == (3, 80, "fraction")
    assert (row.conditional_on, row.clusters, row.cluster_name) == (("clusters",), 2, "speaker")
    assert row.data_fingerprint == fake_runs.FINGERPRINT and row.hardware == "A CPU"
    assert one(rows, label="joint", metric="accuracy", kind="sliced", modality="audio")
    assert one(rows, label="unimodal", metric="accuracy", kind="own_head", modality="visual", selection="val")


def test_differences_are_paired(rows: list[Row], written: Path) -> None:
    ours, theirs = (bits(written, m, "last/test/fused") for m in ("ogm_ge", "ensemble"))
    estimate = paired_difference(100 * ours, 100 * theirs, groups_of(written))
    row = one(rows, label="ogm_ge", metric="difference", baseline="ensemble")
    found = (row.value, row.ci_low, row.ci_high, row.p_value)
    assert found == pytest.approx((estimate.value, estimate.ci_low, estimate.ci_high, estimate.p_value), rel=1e-5)
    assert row.unit == "points"
    assert not [r for r in rows if r.metric == "difference" and r.label == r.baseline]


def test_rank_groups_leave_the_control_out(rows: list[Row], written: Path) -> None:
    names = ["ensemble", "joint", "ogm_ge", "di_mml"]
    matrices = [bits(written, name, "last/test/fused") for name in names]
    wanted = {r.name: r.group for r in all_pairs_groups(names, matrices, groups_of(written))}
    ranked = {r.label: r.rank_group for r in rows if r.split == "speaker" and r.rank_group is not None}
    assert ranked == wanted
    assert one(rows, label="joint_shuffled_partner", metric="accuracy", kind="fused").rank_group is None
    assert one(rows, metric="resolution").value > 0


def test_gaps_against_hand_computation(rows: list[Row], written: Path) -> None:
    alone, after, control = (
        bits(written, m, "last/visual/test", "probe") for m in ("unimodal", "joint", "joint_shuffled_partner")
    )
    floor = bits(written, "unimodal", "initial/visual/test", "probe")
    where = {"table": "competition_gap", "label": "joint", "modality": "visual"}
    gap = one(rows, metric="gap", **where)
    assert gap.value == pytest.approx(100 * (alone.mean() - after.mean()), rel=1e-5)
    assert gap.baseline == "unimodal" and gap.p_value is not None
    beyond = one(rows, metric="gap_minus_control", **where)
    assert beyond.value == pytest.approx(100 * (control.mean() - after.mean()), rel=1e-5)
    retained = one(rows, metric="retained", **where)
    assert retained.value == pytest.approx((after.mean() - floor.mean()) / (alone.mean() - floor.mean()), rel=1e-5)
    assert retained.ci_low < retained.value < retained.ci_high
    own = bits(written, "unimodal", "last/test/own_head/visual")
    assert one(rows, metric="gap_head", **where).value == pytest.approx(100 * (own.mean() - after.mean()), rel=1e-5)


def test_a_share_of_next_to_nothing_is_no_value() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([""] * 500)
    group = Group("any", "iid", "recipe", "encoder", "", ["audio"], groups, {}, "data")
    floor, best, lifted = (rng.random((3, 500)) < p for p in (0.5, 0.51, 0.8))
    nothing, why = ratio(floor - best.astype(float), best - floor.astype(float), group)
    assert np.isnan(nothing.value) and "no value" in why
    shown, _ = ratio(lifted - floor.astype(float), lifted - floor.astype(float), group)
    assert shown.value == 1


def test_mean_and_worst_gap(rows: list[Row]) -> None:
    where = {"table": "competition_gap", "label": "joint", "metric": "gap"}
    audio, visual, mean, worst = (one(rows, modality=m, **where) for m in ("audio", "visual", "mean", "worst"))
    assert mean.value == pytest.approx((audio.value + visual.value) / 2, rel=1e-4)
    assert worst.value == max(audio.value, visual.value)
    assert worst.ci_low < visual.ci_low and (worst.comparisons, worst.worst_modality) == (2, "visual")


def test_gap_is_zero_by_construction_and_printed_so(rows: list[Row]) -> None:
    for label in ("unimodal", "ensemble"):
        for modality in ("audio", "visual", "mean", "worst"):
            row = one(rows, "competition_gap", label=label, metric="gap", modality=modality)
            assert (row.value, row.ci_low, row.p_value) == (0.0, None, None)
            assert row.by_construction


def test_optimism_is_cross_fitted_and_has_no_interval(rows: list[Row], written: Path) -> None:
    wanted = []
    for seed in (0, 1, 2):
        packed = read_arrays(folder_of(written, "joint", seed) / "epochs.npz")["train/test/fused"]
        wanted.append(100 * cross_fit_optimism(np.unpackbits(packed, axis=1, count=80)).optimism)
    row = one(rows, "selection", "test", label="joint", metric="optimism")
    assert row.value == pytest.approx(np.mean(wanted), rel=1e-5)
    assert row.ci_low is None and row.p_value is None
    assert not [r for r in rows if r.table == "selection" and r.label == "ensemble"]


def test_groups_and_clusters(rows: list[Row], written: Path) -> None:
    matrix, groups = bits(written, "joint", "last/test/fused"), groups_of(written)
    row = one(rows, "groups", label="joint", modality="speaker=george")
    assert row.value == pytest.approx(matrix[:, groups == "george"].mean(), rel=1e-5)
    assert row.n_test == (groups == "george").sum() and "this speaker only" in row.note
    clustered = one(rows, label="joint", metric="accuracy", kind="fused", split="index")
    assert "interval over 8 speakers" in clustered.note


def test_leak_adds_the_variances_of_two_test_sets(rows: list[Row], written: Path) -> None:
    a = two_part(100 * bits(written, "joint", "last/test/fused"), groups_of(written))
    index = bits(written, "joint", "last/test/fused", split="index")
    b = two_part(100 * index, groups_of(written, "index"))
    row = one(rows, "leak", split="index", label="joint")
    assert row.value == pytest.approx(b.value - a.value, rel=1e-5, abs=1e-5)
    assert row.ci_high - row.value == pytest.approx(np.hypot(a.half_width, b.half_width), rel=1e-4)
    assert row.baseline == "split speaker"


def test_bayes_and_no_validation_part(rows: list[Row]) -> None:
    gabor = [row for row in rows if row.dataset == "gabor_nuisance"]
    assert {row.selection for row in gabor} == {"last", "test", ""}
    ceiling = one(gabor, "bayes", "", split="default", modality="fused", metric="accuracy")
    assert (ceiling.value, ceiling.kind) == (0.95, "bayes")
    ours = one(gabor, split="default", label="joint", metric="accuracy", kind="fused")
    below = one(gabor, "bayes", split="default", label="joint", metric="difference")
    assert below.value == pytest.approx(100 * (ours.value - 0.95), abs=1e-3)
    assert not [row for row in gabor if row.table in ("groups", "leak")]


def test_subsets_name_how_missing_modalities_are_filled(rows: list[Row]) -> None:
    row = one(rows, "subsets", label="joint", modality="audio", kind="subset")
    assert row.metric == "accuracy@mean" and "train mean" in row.note


def test_one_seed_claims_nothing(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path / "r", [small(seeds=(4,))])
    frame = make_frame(tmp_path / "r", tmp_path)
    rows = parse_rows(frame[0])
    row = one(rows, label="joint", metric="accuracy", kind="fused")
    assert row.sd is None and row.ci_low is not None and "this trained model" in row.note
    assert {r.rank_group for r in rows if r.rank_group} == {1}
    assert not [r for r in rows if r.p_value is not None]
    result_set = ResultSet.parse(read_plan(tmp_path / "r"), *frame)
    assert "nothing is separated" in " ".join(headline_of(result_set, result_set.groups()[0]))
    assert "takes two seeds" in " ".join(accuracy_table(result_set, result_set.groups()[0]).notes)


def test_differing_seeds_are_compared_over_the_common_ones(tmp_path: Path) -> None:
    methods = [replace(m, seeds=(1, 2, 7)) if m.label == "ogm_ge" else m for m in fake_runs.default_methods()]
    methods.append(FakeMethod("lonely", method="modality_dropout", accuracy={"fused": 0.3}, seeds=(9,)))
    fake_runs.write_study(tmp_path, [small(methods=methods, seeds=(0, 1, 2, 3, 4))])
    rows = parse_rows(make_frame(tmp_path, tmp_path)[0])
    row = one(rows, label="ogm_ge", metric="difference", baseline="joint")
    assert row.n_seeds == 2 and row.common_seeds == (1, 2)
    assert one(rows, label="ogm_ge", metric="accuracy", kind="fused").n_seeds == 3
    places = {r.label: r.rank_group for r in rows if r.rank_group}
    assert places["lonely"] == 1 and places["joint"] > 1, (
        "a row of one foreign seed claims nothing and spoils nothing"
    )
    assert not [r for r in rows if r.label == "lonely" and r.metric in ("difference", "gap")]


def test_without_unimodal_runs_there_is_no_gap(tmp_path: Path) -> None:
    methods = [m for m in fake_runs.default_methods() if m.label in ("joint", "ogm_ge")]
    fake_runs.write_study(tmp_path, [small(methods=methods)])
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    assert not [r for r in parse_rows((tmp_path / "all_tables.csv").read_text()) if r.table == "competition_gap"]
    assert "no ensemble beside joint" in (tmp_path / "leaderboard.md").read_text()


def test_three_modalities_and_constant_predictions(tmp_path: Path) -> None:
    three = ("audio", "visual", "pulse")
    methods = fake_runs.default_methods(three)
    methods[1].accuracy["fused"] = 1.0
    group = small(modalities=three, methods=methods, seed_sd=0.0, groups=())
    fake_runs.write_study(tmp_path, [group])
    rows = parse_rows(make_frame(tmp_path, tmp_path)[0])
    assert one(rows, "competition_gap", label="joint", metric="gap", modality="worst").comparisons == 3
    perfect = one(rows, label="ensemble", metric="accuracy", kind="fused")
    assert perfect.value == perfect.ci_high == 1.0 and 0.9 < perfect.ci_low < 1, (
        "Wilson's interval where all are right"
    )
    assert "fewer than 20 wrong" in perfect.note and "do not vary" not in perfect.note


@pytest.mark.slow
def test_mixed_code_packages_and_hardware_say_so_in_the_table(study: Path) -> None:
    folder = folder_of(study, "joint", 0)
    record = read_json(folder / "run.json")
    edit(
        folder / "run.json",
        code={**record["code"], "engine": "f" * 16},
        packages={**record["packages"], "torch": "9"},
        arithmetic={**record["arithmetic"], "device": "cuda"},
    )
    write_json(folder / "provenance.json", read_json(folder / "provenance.json") | {"hardware": "A GPU"})
    fake_runs.seal(folder)
    make_all(study, study / "cache", lambda line: None)
    rows = {r.metric: r for r in parse_rows((study / "all_tables.csv").read_text()) if r.table == "mixed"}
    assert rows["code_versions"].value == 2 and rows["versions_of_torch"].note == "runs of torch 2.13 and 9"
    for name in ("accuracy", "competition_gap", "measures", "reliance"):
        text = (study / f"tables/{name}.md").read_text()
        assert "Mixed: runs of 2 versions of the engine" in text, name
        assert "Mixed: runs of 2 kinds of hardware (A CPU; A GPU)" in text, name
        assert "Native arithmetic" in text, name


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["native", "portable"])
def test_tables_say_where_other_hardware_prints_other_digits(arithmetic: str, tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(arithmetic=arithmetic)])
    provenance = folder_of(tmp_path, "joint", 0) / "provenance.json"
    write_json(provenance, read_json(provenance) | {"hardware": "Another CPU"})
    fake_runs.seal(provenance.parent)
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    rows = parse_rows((tmp_path / "all_tables.csv").read_text())
    assert {row.arithmetic for row in rows if row.runs} == {arithmetic}
    assert {row.precision for row in rows if row.runs} == {"fp32"}
    for name in ("accuracy", "competition_gap", "measures"):
        text = (tmp_path / f"tables/{name}.md").read_text()
        assert ("Native arithmetic" in text) == ("2 kinds of hardware" in text) == (arithmetic == "native"), name


def test_uniform_studies_have_no_mixed_rows(rows: list[Row]) -> None:
    assert not [row for row in rows if row.table == "mixed"]


@pytest.mark.slow
def test_every_ranking_says_that_intervals_are_of_one_comparison_and_groups_of_all(written: Path, tmp_path) -> None:
    results = Path(shutil.copytree(written, tmp_path / "results"))
    make_all(results, written.parent / "cache", lambda line: None)
    console = Console(width=120, file=io.StringIO())
    show(results, console)
    page = re.sub(r"<[^>]+>", "", (results / "leaderboard.html").read_text())
    for text in (console.file.getvalue(), (results / "leaderboard.md").read_text(), page):
        assert ONE_OF_ALL in " ".join(html.unescape(text).split())
