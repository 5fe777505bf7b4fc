"""`import mmlbench as mb`: what a notebook calls."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import fake_runs
import numpy as np
import pandas as pd
import pytest
from fake_runs import FakeMethod, small

import mmlbench
import mmlbench as mb
from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.cli import main
from mmlbench.report import figures, make_all
from mmlbench.results.load import read_plan
from mmlbench.results.run_folder import RunFolder
from mmlbench.stats import two_part
from mmlbench.testing import FEW_EPOCHS, PLUGINS

ROOT = Path(mmlbench.__file__).parent


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder with its tables: three methods, the last with a seed less."""
    results = tmp_path_factory.mktemp("api") / "results"
    methods = [
        *small().methods[:3],
        FakeMethod("ogm_ge", accuracy={"fused": 0.9}),
        FakeMethod("modality_dropout", accuracy={"fused": 0.6}, seeds=(0, 1)),
    ]
    fake_runs.write_study(results, [small(methods=methods, seeds=(0, 1, 2))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *about: {})  # they take longest, and nothing here reads them
        make_all(results, results.parent / "cache", lambda line: None)
    return results


# ---- names -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_no_public_name_is_hidden_by_a_submodule() -> None:
    """In a fresh process, since an imported submodule becomes an attribute of its package."""
    code = (
        "import importlib, pkgutil, inspect, mmlbench as mb\n"
        "for info in pkgutil.walk_packages(mb.__path__, 'mmlbench.'):\n"
        "    if info.name.split('.')[1] not in ('__main__', 'methods', 'datasets', 'plugins'):\n"
        "        importlib.import_module(info.name)\n"
        "bad = [n for n in mb.__all__ if inspect.ismodule(getattr(mb, n))]\n"
        "print(bad, len(mb.list_methods()) > 5, mb.describe('di_mml').name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True di_mml"


def test_what_type_checkers_see_is_what_is_there() -> None:
    """The imports for type checkers and the names that are imported late are two lists of the same."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    typed: dict[str | None, set[str]] = {}
    for node in guarded.body:
        assert isinstance(node, ast.ImportFrom)
        typed.setdefault(node.module, set()).update(alias.name for alias in node.names)
    assert typed == {module: set(names) for module, names in mmlbench._PUBLIC.items()}
    assert set(mb.__all__) - {"__version__"} == set(mmlbench._HOME) <= set(dir(mb))


def test_every_public_name_is_its_own() -> None:
    for name, module in mmlbench._HOME.items():
        assert getattr(mb, name) is getattr(importlib.import_module(f"mmlbench.{module}"), name), name
    with pytest.raises(AttributeError, match="no attribute 'Mehtod'"):
        _ = mb.Mehtod  # type: ignore[attr-defined]
    assert not set(mmlbench._HOME) & {info.name for info in pkgutil.iter_modules(mmlbench.__path__)}


def test_tables_are_read_without_torch(study: Path) -> None:
    code = (
        "import sys, mmlbench as mb\n"
        f"found = mb.load({str(study)!r})\n"
        "found.table('accuracy'), found.runs(), found.history(), found.compare('ogm_ge', 'joint')\n"
        "mb.list_methods(), mb.describe('joint').params\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- plug-ins --------------------------------------------------------------------------------------------------
def test_lists_and_descriptions() -> None:
    assert {"joint", "di_mml"} <= set(mb.list_methods().name) and {"avdigits", "cremad"} <= set(
        mb.list_datasets().name
    )
    assert "small_cnn" in set(mb.list_encoders().name) and not mb.list_methods().error.any()
    found = mb.describe("ogm_ge")
    assert found.kind == "method" and {"alpha", "noise"} <= set(found.params.name) and "Peng" in str(found)
    assert "tasks: classification\n" in str(found) and "regression" in str(mb.describe("joint"))
    lines = {line.split()[0]: line for line in str(found).splitlines() if " = " in line}
    assert "0.05 to 1" in lines["alpha"] and "tuned" not in lines["start"], "ranges of tuning, where there are some"
    with pytest.raises(mb.ConfigError, match="ogm_ge"):
        mb.describe("ogmge")
    with pytest.raises(mb.ConfigError, match="no dataset is named 'ogm_ge'"):
        mb.describe("ogm_ge", kind="dataset")


def test_a_name_of_two_kinds_has_to_be_told_apart(plugin_folder: Path) -> None:
    (plugin_folder / "twice.py").write_text(
        "from mmlbench.methods.joint import Joint\nfrom mmlbench import register\n"
        "@register\nclass A(Joint):\n    'The method.'\n    name = 'avdigits'\n"
    )
    with pytest.raises(mb.ConfigError, match=r"a dataset and a method|a method and a dataset"):
        mb.describe("avdigits", plugins=[plugin_folder])
    assert mb.describe("avdigits", kind="method").doc == "The method."


def test_a_plugin_that_fails_stands_in_the_list_with_its_error(plugin_folder: Path) -> None:
    (plugin_folder / "broken.py").write_text("import nowhere_at_all\n")
    assert "broken" not in set(mb.list_methods(plugins=[plugin_folder]).name)  # of which kind nobody knows


# ---- runs ------------------------------------------------------------------------------------------------------
def test_a_run_is_trained_and_opened_at_once_the_second_time(tmp_path: Path) -> None:
    cache = mb.prepare_dataset("tiny", cache=tmp_path / "cache", plugins=[PLUGINS])
    assert cache.folder.parent == tmp_path / "cache"
    options = {"results": tmp_path / "results", "cache": tmp_path / "cache", "device": "cpu", "plugins": [PLUGINS]}
    run = mb.train_run("tiny", "joint", 1, recipe_params=FEW_EPOCHS, **options)
    assert run.config.seed == 1 and run.path.is_relative_to(tmp_path / "results")
    stamp = (run.path / "run.json").stat().st_mtime_ns
    again = mb.train_run("tiny", "joint", 1, recipe_params=FEW_EPOCHS, **options)
    assert again.path == run.path and (run.path / "run.json").stat().st_mtime_ns == stamp
    label, logits = run.predictions["test/label"], run.predictions["last/test/fused"]
    assert run.accuracy() == np.mean(logits.argmax(1) == label)
    metrics, history = run.metrics(), run.history()
    row = metrics[(metrics.selection == "last") & (metrics.part == "test") & (metrics.logits == "fused")]
    assert row[row.metric == "accuracy"].value.item() == run.accuracy()
    assert set(history.epoch) == {0, 1} and {"loss", "accuracy/fused"} <= set(history.name)
    with pytest.raises(mb.ConfigError, match="no accuracy last/nothing"):
        run.accuracy("nothing")


def test_a_stored_run_is_made_again_and_one_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    places = {"cache": tmp_path / "cache", "device": "cpu", "plugins": [PLUGINS]}
    run = mb.train_run("tiny", "joint", recipe_params=FEW_EPOCHS, results=tmp_path / "a", **places)
    again = mb.train_stored(run.path / "run.json", results=tmp_path / "b", **places)
    assert (again.path / "predictions.npz").read_bytes() == (run.path / "predictions.npz").read_bytes()
    assert again.path.relative_to(tmp_path / "b") == run.path.relative_to(tmp_path / "a")
    assert again.summary() == run.summary() and f"fused {100 * run.accuracy():.1f} %" in run.summary()
    with pytest.raises(mb.ConfigError, match="not the run that was planned"):
        mb.train_stored(run.path / "run.json", results=tmp_path / "c", expect="0000000000", **places)
    with pytest.raises(mb.ConfigError, match="not the run that was planned"):
        mb.train_run("tiny", "joint", recipe_params=FEW_EPOCHS, results=tmp_path / "c", expect="0", **places)
    with pytest.raises(mb.ConfigError, match="is no file"):
        mb.train_stored(tmp_path / "none.json", **places)
    assert not (tmp_path / "c" / "runs").exists()


@pytest.mark.slow
def test_a_study_is_made_with_its_tuning_and_noise_and_a_second_time_at_once(tmp_path: Path) -> None:
    methods = ["unimodal", {"method": "joint", "tune": False}, "modality_dropout"]
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0], "methods": methods}
    config = {
        "name": "small",
        "plugins": [str(PLUGINS)],
        "tune": {"draws": 2},
        "robustness": {"noise": [1.0]},
        "grid": [block],
    }
    places = {"results": tmp_path / "results", "cache": tmp_path / "cache", "device": "cpu"}
    study = mb.run_study(config, **places)
    accuracy = study.table("accuracy")
    assert (
        study.name == "small"
        and {"joint", "modality_dropout"} <= set(accuracy.label)
        and "robustness" in study.tables
    )
    assert accuracy[accuracy.label == "modality_dropout"].tuning_trials.eq(2).all()
    assert accuracy[accuracy.label == "joint"].tuning_trials.eq(0).all()
    made = {path: path.stat().st_mtime_ns for path in places["results"].rglob("run.json")}
    assert len(made) == 1 + 1 + 2 + 1  # unimodal, joint, two trials, and what they chose
    again = mb.run_study(config, **places)
    assert {path: path.stat().st_mtime_ns for path in places["results"].rglob("run.json")} == made
    pd.testing.assert_frame_equal(again.table("accuracy"), accuracy)
    with pytest.raises(mb.ConfigError, match="jiont"):
        mb.run_study({**config, "grid": [{**block, "methods": ["jiont"]}]}, **places)


def test_a_tuning_takes_numbers_in_range_and_a_rule_that_may_choose(tmp_path: Path) -> None:
    for wrong in ({"draws": 1}, {"draws": True}, {"draws": 2, "seed": -1}, {"draws": 2.5}):
        with pytest.raises(mb.ConfigError, match="It takes an int from"):
            mb.Tune(**wrong)
    with pytest.raises(mb.ConfigError, match="It takes last or val"):
        mb.train_run(
            "tiny",
            "modality_dropout",
            results=tmp_path,
            cache=tmp_path,
            plugins=[PLUGINS],
            tune=mb.Tune(2),
            tune_rule="test",
        )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"method": "jiont"}, mb.ConfigError),
        ({"dataset": "tinny"}, mb.ConfigError),
        ({"params": {"fusoin": "sum"}}, mb.ConfigError),
        ({"recipe_params": {"epochs": 0}}, mb.ConfigError),
        ({"split": "nowhere"}, mb.ConfigError),
        ({"plugins": ["no/such/folder"]}, mb.ConfigError),
        ({"seed": -1}, mb.ConfigError),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_written(change: dict, error: type, tmp_path: Path) -> None:
    request = {"dataset": "tiny", "method": "joint", "seed": 0, "plugins": [PLUGINS]} | change
    with pytest.raises(error):
        mb.train_run(**request, results=tmp_path / "results", cache=tmp_path / "cache", device="cpu")
    assert not (tmp_path / "results").exists()


def test_plugins_below_a_results_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What comes with results is not for this machine to run, even where nothing marks the folder as results."""
    folder = tmp_path / "results" / "plugins"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text("raise AssertionError('imported')\n")
    with pytest.raises(mb.ConfigError, match="lies in"):
        mb.prepare_dataset("tiny", results=tmp_path / "results", cache=tmp_path / "cache", plugins=[folder])
    words = ["prepare", "tiny", "--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--plugins", str(folder)]) == 2
    assert f"lies in {tmp_path / 'results'}" in capsys.readouterr().err


def test_a_run_that_is_asked_to_stop_goes_on_to_the_same_result(tmp_path: Path) -> None:
    from mmlbench.train import Stopped

    options = {"cache": tmp_path / "cache", "device": "cpu", "plugins": [PLUGINS], "recipe_params": FEW_EPOCHS}
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        mb.train_run("tiny", "joint", results=tmp_path / "a", asked_to_stop=lambda: next(asked), **options)
    stopped = mb.train_run("tiny", "joint", results=tmp_path / "a", **options)
    straight = mb.train_run("tiny", "joint", results=tmp_path / "b", **options)
    for name in ("run.json", "predictions.npz", "history.csv"):
        assert (stopped.path / name).read_bytes() == (straight.path / name).read_bytes()


# ---- results ---------------------------------------------------------------------------------------------------
def test_tables_are_those_of_all_tables_csv(study: Path) -> None:
    found, stored = mb.load(study), pd.read_csv(study / "all_tables.csv")
    assert found.tables == list(dict.fromkeys(stored.table)) and len(found.rows()) == len(stored)
    accuracy = found.table("accuracy")
    kept = stored[(stored.table == "accuracy") & (stored.selection == found.headline)]
    assert accuracy.value.tolist() == kept.value.tolist() and accuracy.row_id.tolist() == kept.row_id.tolist()
    assert len(found.table("accuracy", every_rule=True)) > len(accuracy)
    with pytest.raises(mb.ConfigError, match="accuracy"):
        found.table("acuracy")


def test_a_folder_without_tables_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(mb.DataError, match=r"mmlbench tables|snakemake"):
        mb.load(tmp_path)


def test_runs_have_the_accuracy_of_every_head(study: Path) -> None:
    runs = mb.load(study).runs()
    assert len(runs) == len(read_plan(study).cells) == 5 * 3 - 1
    for row in runs.to_dict("records"):
        folder = RunFolder.open(study / row["run"])
        label = folder.predictions["test/label"]
        heads = [key for key in folder.predictions if key.count("/") >= 2 and "/test/" in key and "@" not in key]
        for key in heads:
            rule, _, head = key.split("/", 2)
            right = np.mean(folder.predictions[key].argmax(1) == label)
            assert row[f"accuracy:{rule}/{head}"] == pytest.approx(right, abs=1e-6), key
        for key in (key for key in folder.probe if key.endswith("/test")):
            rule, modality, _ = key.split("/")
            right = np.mean(folder.probe[key].argmax(1) == label)
            assert row[f"accuracy:{rule}/probe/{modality}"] == pytest.approx(right, abs=1e-6)
        assert row["seed"] == folder.record.config.seed and row["epochs"] == folder.record.epochs
        assert row["train_seconds"] == folder.provenance.seconds["train"]


def test_history_names_the_run_of_each_row(study: Path) -> None:
    found = mb.load(study)
    history, runs = found.history(), found.runs()
    trained = runs[runs.epochs > 0]  # the ensemble is not
    assert len(history.groupby(["label", "seed"])) == len(trained) == len(runs) - 3
    one = history[(history.label == "joint") & (history.seed == 1)]
    run = runs[(runs.label == "joint") & (runs.seed == 1)].run.item()
    assert set(one.run) == {run}
    assert one[["stage", "epoch", "part", "name", "value"]].values.tolist() == [
        list(row) for row in RunFolder.open(study / run).history()
    ]


def fused_bits(results: Path, label: str, seed: int) -> np.ndarray:
    """Return which test samples the run of a label and seed gets right, from its stored logits."""
    (cell,) = [c for c in read_plan(results).cells if (c.label, c.config.seed) == (label, seed)]
    found = RunFolder.open(results / cell.run).predictions
    return (found["last/test/fused"].argmax(1) == found["test/label"]).astype(float)


def test_a_comparison_is_the_paired_difference(study: Path) -> None:
    found = mb.load(study).compare("ogm_ge", "modality_dropout")
    row = found[found.kind == "fused"].iloc[0]
    seeds = (0, 1)  # those that both have
    assert row.seeds == "0 1"
    matrix = np.stack([fused_bits(study, "ogm_ge", s) - fused_bits(study, "modality_dropout", s) for s in seeds])
    run = RunFolder.open(study / read_plan(study).cells[0].run)
    groups = run.predictions["test/group"]
    wanted = two_part(100 * matrix, groups if (groups != "").any() else None)
    assert (row.value, row.ci_low, row.ci_high) == pytest.approx(
        (wanted.value, wanted.ci_low, wanted.ci_high), rel=1e-4
    )
    assert row.p_value == pytest.approx(wanted.p_value, rel=1e-4)


def test_a_label_is_not_compared_with_itself(study: Path) -> None:
    with pytest.raises(mb.ConfigError, match="itself"):
        mb.load(study).compare("joint", "joint")


@pytest.mark.slow
def test_the_histories_of_two_folds_are_told_apart(tmp_path: Path) -> None:
    """Folds are one row of runs.csv, and two run folders."""
    folds = [small(split=f"speaker_rotation.{k}", seeds=(0,), groups=tuple("ab")) for k in (1, 2)]
    fake_runs.write_study(tmp_path / "results", folds)
    make_all(tmp_path / "results", tmp_path / "cache", lambda line: None)
    found = mb.load(tmp_path / "results")
    joint = found.history().query("label == 'joint'")
    (row,) = found.runs().query("label == 'joint'").to_dict("records")
    assert set(joint.run) == set(row["run"].split(" + ")) and len(set(joint.run)) == 2
    assert not joint.duplicated(["run", "stage", "epoch", "part", "name"]).any()


def test_a_comparison_turned_round_has_the_signs_turned(study: Path) -> None:
    found = mb.load(study)
    there, back = found.compare("ogm_ge", "joint", "avdigits"), found.compare("joint", "ogm_ge", "avdigits")
    assert (there.value == -back.value).all() and (there.ci_low == -back.ci_high).all()
    assert (there.ci_high == -back.ci_low).all() and (there["first"] == back["second"]).all()
    assert there.p_adjusted.equals(back.p_adjusted)


@pytest.mark.parametrize(
    ("words", "named"), [(("ogmge", "joint"), "ogm_ge"), (("ogm_ge", "joint", "avdigit"), "avdigits")]
)
def test_a_comparison_of_what_is_not_there_names_the_nearest(words: tuple[str, ...], named: str, study: Path) -> None:
    with pytest.raises(mb.ConfigError, match=named):
        mb.load(study).compare(*words)


def test_rank_groups_follow_from_the_pairs(study: Path) -> None:
    """One more than how many labels are better with an adjusted p-value below .05."""
    found = mb.load(study)
    pairs = pd.read_csv(study / "pairwise.csv")
    pairs = pairs[(pairs.kind == "fused") & pairs.p_adjusted.notna()]
    accuracy = found.table("accuracy")
    ranked = accuracy[(accuracy.metric == "accuracy") & (accuracy.kind == "fused") & accuracy.rank_group.notna()]
    for row in ranked.to_dict("records"):
        worse = pairs[(pairs.p_adjusted < 0.05) & (pairs["first"] == row["label"]) & (pairs.value < 0)]
        worse_too = pairs[(pairs.p_adjusted < 0.05) & (pairs["second"] == row["label"]) & (pairs.value > 0)]
        assert row["rank_group"] == 1 + len(worse) + len(worse_too), row["label"]
    assert len(set(ranked.rank_group)) > 1, "a study in which nothing is separated shows nothing"


def test_differences_of_the_accuracy_table_stand_among_the_pairs(study: Path) -> None:
    found = mb.load(study)
    accuracy = found.table("accuracy")
    for row in accuracy[accuracy.metric == "difference"].to_dict("records"):
        pair = found.compare(row["label"], row["baseline"])
        pair = pair[pair.kind == "fused"].iloc[0]
        assert (pair.value, pair.ci_low, pair.ci_high) == (row["value"], row["ci_low"], row["ci_high"])
        assert pair.p_value == row["p_value"]


@pytest.mark.slow
def test_one_seed_has_no_p_value(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path / "results", [small(seeds=(0,))])
    make_all(tmp_path / "results", tmp_path / "cache", lambda line: None)
    pairs = pd.read_csv(tmp_path / "results" / "pairwise.csv")
    assert len(pairs) and pairs.p_value.isna().all() and (pairs.p_adjusted.dropna() == 1).all()


def test_a_changed_run_is_refused_by_its_history(study: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(study, tmp_path / "results"))
    run = results / str(mb.load(results).runs().run[0])
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"epochs": 99}))
    with pytest.raises(mb.DataError, match="was changed"):
        mb.load(results).history()


def test_all_tables_are_the_same_however_they_are_made(study: Path) -> None:
    """The tables step loads the runs once for all its files; `make_frame` loads them for itself."""
    all_tables, cost, _ = make_frame(study, study.parent / "cache")
    assert all_tables == (study / "all_tables.csv").read_text() and cost == (study / "cost.csv").read_text()
    assert len(ResultSet.open(study).rows) == len(mb.load(study).rows())


@pytest.mark.parametrize("tune", [3, "8", {"draws": 3}, 0, False, mb.Tune])
def test_a_tune_of_another_type_is_refused(tune: object) -> None:
    with pytest.raises(mb.ConfigError, match=r"mmlbench\.Tune\("):
        mb.train_run("tiny", "joint", tune=tune)
