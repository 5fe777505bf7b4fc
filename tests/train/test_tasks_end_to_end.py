"""Regression and several labels from a dataset to a run folder: closed forms, and bad input."""

from __future__ import annotations

import math
from pathlib import Path

import fake_runs
import numpy as np
import pytest
import torch
from scipy.stats import norm

from mmlbench.api.making import make_run
from mmlbench.dataset import CacheWriter, Sample
from mmlbench.errors import ConfigError, DataError, RunError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.run_folder import RunFolder, verify
from mmlbench.results.score import score_run
from mmlbench.results.verify import verify_run
from mmlbench.storage.atomic import read_arrays, read_json, write_arrays, write_json
from mmlbench.study.run_spec import Request, resolve
from mmlbench.task import Classification, Multilabel, Regression, numeric
from mmlbench.testing import PLUGINS
from mmlbench.train.probe import PENALTIES, fit_one_vs_rest, fit_probe, fit_ridge

FOLDER = Path(__file__).resolve().parents[1] / "plugins"
#: Linear encoders, trained long enough to be near the best linear prediction.
LONG = {"encoder": "linear", "epochs": 40, "batch_size": 40, "lr": 0.003, "weight_decay": 0.01}
QUICK = {"encoder": "linear", "epochs": 2, "batch_size": 60, "lr": 0.002}
DATASETS = ("tiny_number", "tiny_labels")


def made(tiny, results: Path, method: str, dataset: str, recipe: dict, **options) -> RunFolder:
    """Make a run with linear encoders, and those that it reuses."""
    plugins = [FOLDER]
    for needed in tiny.spec(method, dataset=dataset, recipe=recipe, plugins=plugins).requires:
        tiny.run(needed, results, dataset=dataset, recipe=recipe, plugins=plugins)
    return tiny.run(method, results, dataset=dataset, recipe=recipe, plugins=plugins, **options)


@pytest.fixture(scope="module", autouse=True)
def known() -> None:
    use_plugins([PLUGINS, FOLDER])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def runs(tiny, results: Path) -> dict[tuple[str, str], RunFolder]:
    """Return runs of two epochs."""
    methods = ("unimodal", "joint", "ensemble")
    return {(m, d): made(tiny, results, m, d, QUICK) for d in DATASETS for m in methods}


@pytest.fixture(scope="module")
def long_runs(tiny, results: Path) -> dict[tuple[str, str], RunFolder]:
    """Return runs that end near the best linear prediction."""
    return {(m, d): made(tiny, results, m, d, LONG) for d in DATASETS for m in ("unimodal", "joint")}


def on_test(run: RunFolder, name: str, metric: str = "") -> float:
    """Return a metric of stored predictions after the last epoch; of a probe by 'probe/<modality>'."""
    task = run.record.task
    return next(
        s.value for s in score_run(run) if s.part == "test" and str(s.key) == f"last/{name}"
        and s.metric == (metric or task.headline)
    )  # fmt: skip


# ---- closed forms ----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_regression_comes_near_the_best_prediction(long_runs) -> None:
    joint, alone = long_runs["joint", "tiny_number"], long_runs["unimodal", "tiny_number"]
    best = math.sqrt(2 / math.pi) * 0.3
    of_one = math.sqrt(2 / math.pi) * math.sqrt(0.45)
    assert joint.record.bayes == pytest.approx({"audio": of_one, "visual": of_one, "fused": best}, abs=1e-6)
    assert best * 0.8 < on_test(joint, "fused") < best * 1.3
    for modality in ("audio", "visual"):
        assert of_one * 0.85 < on_test(alone, f"own_head/{modality}") < of_one * 1.2
        assert of_one * 0.85 < on_test(alone, f"probe/{modality}") < of_one * 1.3
    assert on_test(joint, "fused", "pearson") == pytest.approx(math.sqrt(0.72 / 0.81), abs=0.03)
    assert on_test(alone, "own_head/audio", "pearson") == pytest.approx(math.sqrt(0.36 / 0.81), abs=0.08)


@pytest.mark.slow
def test_several_labels_come_near_the_bayes_rule(long_runs) -> None:
    joint, alone = long_runs["joint", "tiny_labels"], long_runs["unimodal", "tiny_labels"]
    wanted = {"audio": 1.2, "visual": 0.8}
    assert on_test(joint, "fused", "label_accuracy") == pytest.approx(
        norm.cdf(math.hypot(*wanted.values())), abs=0.035
    )
    for modality, mean in wanted.items():
        assert on_test(alone, f"own_head/{modality}", "label_accuracy") == pytest.approx(norm.cdf(mean), abs=0.045)
        assert on_test(alone, f"probe/{modality}", "label_accuracy") == pytest.approx(norm.cdf(mean), abs=0.045)
    assert on_test(joint, "fused") > max(on_test(alone, f"own_head/{m}") for m in wanted)


def test_the_ensemble_is_the_mean_of_the_heads(runs) -> None:
    for dataset in DATASETS:
        found = runs["ensemble", dataset].predictions
        mean = (found["last/test/own_head/audio"] + found["last/test/own_head/visual"]) / 2
        assert found["last/test/fused"] == pytest.approx(mean, abs=1e-5)


def test_the_probe_of_a_number_is_scikit_learns_ridge() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    features, target = rng.standard_normal((60, 7)), rng.standard_normal(60)
    features -= features.mean(0)
    for penalty in PENALTIES:
        found = fit_ridge(torch.from_numpy(features), torch.from_numpy(target), penalty)
        wanted = Ridge(alpha=penalty * 60).fit(features, target)
        assert found[:-1, 0].numpy() == pytest.approx(wanted.coef_)
        assert found[-1, 0].item() == pytest.approx(wanted.intercept_)


def test_the_probe_of_labels_is_scikit_learns_logistic_regression_of_each() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    features = rng.standard_normal((80, 5))
    target = (features[:, :3] + rng.standard_normal((80, 3)) > 0.3).astype(np.float64)
    start = torch.zeros(6, 3, dtype=torch.float64)
    for penalty in (1.0, 0.01):
        found = fit_one_vs_rest(torch.from_numpy(features), torch.from_numpy(target), penalty, start).numpy()
        for k in range(3):
            wanted = LogisticRegression(C=1 / (80 * penalty), tol=1e-8, max_iter=1000).fit(features, target[:, k])
            assert found[:-1, k] == pytest.approx(wanted.coef_[0], abs=2e-4)
            assert found[-1, k] == pytest.approx(wanted.intercept_[0], abs=2e-4)


def test_the_penalty_is_chosen_by_the_metric_whichever_way_it_goes() -> None:
    rng = np.random.default_rng(2)
    features = torch.from_numpy(rng.standard_normal((80, 40)))
    target = (features[:, 0] + 3 * torch.from_numpy(rng.standard_normal(80))).float()
    task = Regression("t")
    metric = task.metric("mae")
    chosen = fit_probe(task, metric, features[:40], target[:40], features[40:], target[40:])
    reached = {}
    for penalty in PENALTIES:
        mean, scale = features[:40].mean(0), features[:40].std(0, correction=0)
        solution = fit_ridge((features[:40] - mean) / scale, target[:40].double(), penalty)
        outputs = ((features[40:] - mean) / scale) @ solution[:-1] + solution[-1]
        reached[penalty] = metric.value(outputs.numpy(), target[40:].numpy())
    assert chosen.penalty == min(reached, key=lambda penalty: reached[penalty]) != max(reached, key=reached.get)


# ---- what a run leaves -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_run_of_any_task_holds_targets_outputs_and_scores(runs, tiny, results: Path, dataset: str) -> None:
    run = runs["joint", dataset]
    task, table = run.record.task, Cache.open(tiny.cache / tiny.spec("joint", dataset=dataset).cache)
    assert task == table.task and run.record.metric.name == task.headline
    for part in ("val", "test"):
        stored, n = run.predictions[f"{part}/label"], run.record.counts[part]
        assert stored.dtype == np.dtype(task.dtype) and np.array_equal(stored, table.part("speaker", part).label)
        assert run.predictions[f"last/{part}/fused"].shape == (n, task.outputs)
        scores = run.epoch_scores(part)["train/fused"]
        assert scores.shape == (2, n) and scores.dtype == np.float32
        again = task.metrics[task.score].sample_values(run.predictions[f"last/{part}/fused"], stored)
        assert scores[-1] == pytest.approx(again, abs=1e-5)
    assert verify_run(run.path, results, tiny.cache) == []
    names = {row[3].partition("/")[0] for row in run.history()}
    assert {"loss", task.score, task.headline} <= names and "distance" not in names and "accuracy" not in names


@pytest.mark.parametrize("dataset", DATASETS)
def test_val_picks_the_best_epoch_by_the_metric(runs, dataset: str) -> None:
    run = runs["joint", dataset]
    metric, pick = run.record.metric, run.record.selected["val"][-1]
    reached = {e: v for _, e, part, name, v in run.history() if part == "val" and name == f"{metric.name}/fused"}
    best = (max if metric.higher else min)(reached.values())
    assert pick.reached == pytest.approx(best) and reached[pick.epoch] == best
    assert pick.epoch == min(e for e, v in reached.items() if v == best)
    facts = read_json(run.path / "run.json")
    assert metric.name in facts["selected"]["val"][0] and "accuracy" not in facts["selected"]["val"][0]


def test_another_metric_picks_other_epochs_and_is_part_of_the_identity(tiny, tmp_path: Path) -> None:
    index, fields = load_index(), {**QUICK, "epochs": 4}
    usual, named, own = (
        resolve(Request("tiny_number", "joint", 0, recipe_params=fields, metric=metric), index)
        for metric in ("", "pearson", "mae")
    )
    assert own.path == usual.path != named.path and named.config.metric == "pearson"
    assert "metric" not in usual.config.plain() and named.command[named.command.index("--metric") + 1] == "pearson"
    make_run(named, index, tmp_path, tiny.cache, device="cpu")
    run = RunFolder.open(tmp_path / named.path)
    assert run.record.metric.name == "pearson" and verify_run(run.path, tmp_path, tiny.cache) == []
    facts = read_json(run.path / "run.json")
    assert facts["metric"] == "pearson" and set(facts["probe"]["last"]["audio"]) == {"penalty", "pearson"}


def test_classification_can_be_picked_by_another_metric(tiny, tmp_path: Path) -> None:
    request = Request("tiny", "joint", 0, recipe_params={"epochs": 2, "batch_size": 16}, metric="macro_f1")
    spec = resolve(request, load_index())
    make_run(spec, load_index(), tmp_path, tiny.cache, device="cpu")
    run = RunFolder.open(tmp_path / spec.path)
    assert run.record.metric.name == "macro_f1" and verify_run(run.path, tmp_path, tiny.cache) == []
    assert {"accuracy", "macro_f1"} <= {row[3].partition("/")[0] for row in run.history()}


# ---- bad input -------------------------------------------------------------------------------------------------
def damaged(run: RunFolder, to: Path, change) -> Path:
    """Copy a run folder and change its predictions, all hashes anew."""
    folder = to / run.record.run
    folder.mkdir(parents=True)
    for file in run.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    arrays = read_arrays(folder / "predictions.npz")
    change(arrays)
    write_arrays(folder / "predictions.npz", arrays)
    fake_runs.seal(folder)
    return folder


def set_first(key: str, value: object):
    def change(arrays: dict) -> None:
        arrays[key][0] = value

    return change


def as_type(key: str, dtype: str):
    def change(arrays: dict) -> None:
        arrays[key] = arrays[key].astype(dtype)

    return change


@pytest.mark.parametrize(
    ("dataset", "change", "words"),
    [
        ("tiny_number", set_first("test/label", np.nan), "NaN"),
        ("tiny_number", set_first("test/label", 4.0), "beyond -3 to 3"),
        ("tiny_number", set_first("last/test/fused", np.nan), "NaN"),
        ("tiny_number", as_type("val/label", "float64"), "float64"),
        ("tiny_number", as_type("val/label", "int64"), "int64"),
        ("tiny_number", lambda a: a.update({"test/label": a["test/label"][::-1].copy()}), "run.json says"),
        ("tiny_labels", set_first("test/label", 2), "neither 0 nor 1"),
        ("tiny_labels", as_type("test/label", "int64"), "int64"),
        ("tiny_labels", lambda a: a.update({"test/label": a["test/label"][:, :3]}), "shape"),
        ("tiny_labels", lambda a: a.update({"last/test/fused": a["last/test/fused"][:, :3]}), "4 labels"),
    ],
)
def test_a_damaged_target_or_output_is_found(runs, tmp_path: Path, dataset: str, change, words: str) -> None:
    folder = damaged(runs["joint", dataset], tmp_path, change)
    assert verify(folder) == [], "the hashes hold"
    found = "\n".join(verify_run(folder))
    assert words in found


def test_a_record_of_several_labels_whose_samples_must_have_one_is_held_to_it(runs, tmp_path: Path) -> None:
    folder = damaged(runs["joint", "tiny_labels"], tmp_path, lambda arrays: None)
    facts = read_json(folder / "run.json")
    del facts["target"]  # what says that a sample may be without labels
    write_json(folder / "run.json", facts)
    fake_runs.seal(folder)
    assert any("without a label" in fault for fault in verify_run(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(task="detection"), "classification, multilabel, regression"),
        (lambda f: f["target"].update(loss_kind="huber"), "target"),
        (lambda f: f["target"].update(low=5), "target"),
        (lambda f: f["target"].update(colour="red"), "target"),
        (lambda f: f.update(metric="accuracy"), "metric"),
        (lambda f: f.update(class_names=["one", "two"]), "target"),
        (lambda f: f["selected"]["last"][0].update(accuracy=0.5), "accuracy"),
    ],
)
def test_a_record_of_no_such_task_is_refused(runs, tmp_path: Path, change, words: str) -> None:
    folder = damaged(runs["joint", "tiny_number"], tmp_path, lambda arrays: None)
    facts = read_json(folder / "run.json")
    change(facts)
    write_json(folder / "run.json", facts)
    with pytest.raises(DataError) as caught:
        RunFolder.open(folder)
    assert words in caught.value.what


@pytest.mark.parametrize(
    ("dataset", "label", "words"),
    [
        ("tiny_number", math.nan, "nan"),
        ("tiny_number", 3.2, "beyond"),
        ("tiny_number", "high", "str"),
        ("tiny_labels", (0, 9), "none of the 4 labels"),
        ("tiny_labels", 1, "int"),
        ("tiny_labels", (1, 1), "twice"),
    ],
)
def test_a_sample_with_a_wrong_label_stops_the_preparation(tmp_path: Path, dataset: str, label, words: str) -> None:
    kind = load_index().load("dataset", dataset)
    out = CacheWriter(tmp_path, kind())
    for modality in out.dataset.modalities:
        out.array(modality.name, 2, "float16")
    good = 0.5 if dataset == "tiny_number" else (0,)
    samples = [Sample("a", "train", good, (0, 0)), Sample("b", "test", label, (1, 1))]
    with pytest.raises(DataError) as caught:
        out.split("plain", samples)
    assert words in caught.value.what and "'b'" in caught.value.what


def test_a_sample_without_labels_is_refused_unless_the_task_allows_it() -> None:
    assert Multilabel(("a", "b")).label_fault(()) and not Multilabel(("a", "b"), may_be_empty=True).label_fault(())


# ---- planning --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", ["ogm", "ogm_ge", "di_mml"])
def test_a_method_that_reads_a_softmax_is_refused_when_it_is_planned(tiny, method: str, dataset: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.spec(method, dataset=dataset)
    task = "regression" if dataset == "tiny_number" else "multilabel"
    assert method in caught.value.what and task in caught.value.what and "classification" in caught.value.what


@pytest.mark.parametrize("combine", ["mean_prob", "certainty"])
def test_a_rule_of_the_ensemble_that_reads_a_softmax_is_refused(tiny, combine: str, monkeypatch) -> None:
    from mmlbench.study.plan_check import check_runs

    spec = tiny.spec("ensemble", dataset="tiny_number", params={"combine": combine}, recipe={"epochs": 2})
    with pytest.raises(ConfigError) as caught:
        check_runs([spec])
    assert combine in caught.value.what


def test_a_class_with_a_loss_of_its_own_serves_what_it_says_itself() -> None:
    joint = load_index().load("method", "joint")
    assert set(joint.tasks) == {"classification", "multilabel", "regression"}

    class Own(joint):
        def loss(self, batch):
            return super().loss(batch)

    class Renamed(joint):
        family = "other"

    class Said(joint):
        tasks = ("regression",)

        def loss(self, batch):
            return super().loss(batch)

    assert (Own.tasks, Renamed.tasks, Said.tasks) == (("classification",), joint.tasks, ("regression",))


def test_a_metric_that_no_part_can_have_is_named(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(numeric, "_rounding", lambda values: math.inf)  # as if all targets were equal
    request = Request("tiny_number", "joint", 0, recipe_params={**QUICK, "epochs": 1}, metric="pearson")
    with pytest.raises(RunError) as caught:
        make_run(resolve(request, load_index()), load_index(), tmp_path, tiny.cache, device="cpu")
    assert "correlation" in caught.value.what and "mae" in caught.value.fix


# ---- class weights and balanced sampling -----------------------------------------------------------------------
def test_class_weights_enter_the_loss_and_the_evaluation_stays_unweighted(tiny, tmp_path: Path) -> None:
    recipe = {"epochs": 2, "batch_size": 60, "encoder": "linear"}
    plain = made(tiny, tmp_path, "joint", "tiny_labels", recipe)
    weighted = made(tiny, tmp_path, "joint", "tiny_labels", {**recipe, "class_weights": "balanced"})
    assert plain.record.config.hash != weighted.record.config.hash
    assert not np.array_equal(plain.predictions["last/test/fused"], weighted.predictions["last/test/fused"])
    loss = next(v for _, e, part, name, v in weighted.history() if (e, part, name) == (1, "test", "loss/fused"))
    outputs, target = (torch.from_numpy(weighted.predictions[k]) for k in ("last/test/fused", "test/label"))
    assert loss == pytest.approx(float(weighted.record.task.loss(outputs, target.float())), rel=1e-5)


def test_class_weights_that_no_loss_reads_are_refused(tiny, tmp_path: Path) -> None:
    recipe = {"epochs": 1, "batch_size": 16, "class_weights": "balanced"}
    made(tiny, tmp_path, "di_mml", "tiny", {**recipe, "epochs": 6})
    with pytest.raises(RunError) as caught:
        made(tiny, tmp_path, "pair", "tiny", recipe)  # it calls PyTorch's cross-entropy by itself
    assert "pair" in caught.value.what and "task_loss" in caught.value.fix


def test_balanced_sampling_draws_classes_alike_by_derived_seeds(tiny) -> None:
    from mmlbench.train.data import PartData

    cache = Cache.open(tiny.cache / tiny.spec("joint").cache)
    cpu, key = torch.device("cpu"), ("tiny", 0)
    part = cache.part("speaker", "train")
    rare = part.label.copy()
    rare[:] = 0
    rare[:4] = 1
    one, again, other = (
        PartData(cache, "speaker", "train", cpu, seed, balanced=True) for seed in (key, key, ("tiny", 1))
    )
    for data in (one, again, other):
        data.chances = torch.from_numpy(Classification.of(3).sampling_weights(rare))
    orders = torch.stack([one.order(epoch) for epoch in range(200)])
    share = float((torch.from_numpy(rare)[orders] == 1).double().mean())
    assert share == pytest.approx(0.5, abs=0.03)
    assert torch.equal(one.order(7), again.order(7)) and not torch.equal(one.order(7), other.order(7))
    assert not torch.equal(one.order(7), one.order(8)) and one.order(7).shape == (len(part),)
    plain = PartData(cache, "speaker", "train", cpu, key)
    assert sorted(plain.order(3).tolist()) == list(range(len(part)))


@pytest.mark.parametrize("field", ["class_weights", "sampling"])
def test_a_number_can_not_be_balanced(tiny, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.spec("joint", dataset="tiny_number", recipe={field: "balanced"})
    assert field in caught.value.what and "regression" in caught.value.what


def test_classes_are_not_balanced_twice(tiny) -> None:
    both = {"class_weights": "balanced", "sampling": "balanced"}
    with pytest.raises(ConfigError, match="balance twice"):
        tiny.spec("joint", recipe=both)
    assert tiny.spec("joint", recipe={"sampling": "balanced"}) and tiny.spec(
        "joint", recipe={"class_weights": "balanced"}
    )
