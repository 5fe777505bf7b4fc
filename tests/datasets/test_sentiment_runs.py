"""Runs on the `sentiment_toy` sets beside the best predictions: masks, padding, the line down to the tables."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentiment import ON_TEST, POPULATION, SETS, Stored, headline, stored

from mmlbench.api.making import ensure_cache, make_run
from mmlbench.cli import main
from mmlbench.datasets._latent_sequences import PADDING
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.run_folder import RunFolder
from mmlbench.results.score import score_run
from mmlbench.storage.atomic import write_json
from mmlbench.study import config
from mmlbench.study.run_spec import Request, resolve
from mmlbench.study.yaml import read_mapping
from mmlbench.train.data import EVALUATION_BATCH, padded_length

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests" / "plugins"
MODALITIES = ("language", "voice")
#: By how much a trained run may stay behind the best prediction of the very test samples: a factor of the error, and
#: a difference of mean average precision. Measured: 1.03 and 0.017 at most by the mask, 1.11 and 0.042 at least
#: without it.
NEAR = {"sentiment_toy": 1.06, "sentiment_toy_labels": 0.03}


@pytest.fixture(scope="module", autouse=True)
def known() -> None:
    use_plugins([PLUGINS])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentiment")


def means(masked: bool = True) -> dict[str, Any]:
    """Return encoders that are the mean step, by the mask or not."""
    return {m: {"name": "mean_steps", "params": {"masked": masked}} for m in MODALITIES}


def made(cache: Cache, results: Path, dataset: str, method: str, recipe: dict, **fields: Any) -> RunFolder:
    """Make a run of seed 0."""
    spec = resolve(Request(dataset, method, 0, recipe_params=recipe, **fields), load_index())
    make_run(spec, load_index(), results, cache.folder.parent, device="cpu")
    return RunFolder.open(results / spec.path)


def on_test(run: RunFolder) -> dict[str, float]:
    """Return the headline metric on the test part after the last epoch, by the name of the outputs."""
    scores = [score for score in score_run(run) if score.part == "test" and score.metric == run.record.task.headline]
    return {str(score.key).removeprefix("last/"): score.value for score in scores if score.key.rule == "last"}


def far(dataset: str, reached: float, best: float) -> bool:
    """Whether a value stays further behind the best than a trained run may."""
    return reached > NEAR[dataset] * best if dataset == "sentiment_toy" else reached < best - NEAR[dataset]


# ---- masks -------------------------------------------------------------------------------------------------------
def with_padding(found: Stored, cache: Cache) -> Stored:
    """Return samples as an encoder without a mask takes them: as long as their batch, the mean step behind them."""
    steps, lengths = {}, {}
    for sensor in found.law.sensors:
        mean = np.array(cache.moments("iid", sensor.name)["mean"])
        real = np.arange(sensor.longest) < found.lengths[sensor.name][:, None]
        batches = np.split(found.lengths[sensor.name], [EVALUATION_BATCH])
        assert {int(batch.max()) for batch in batches} == {sensor.longest} == {padded_length(sensor.longest)}
        steps[sensor.name] = np.where(real[..., None], found.steps[sensor.name], mean)
        lengths[sensor.name] = np.full(len(real), sensor.longest)
    return Stored(found.law, steps, lengths, found.latent, found.label)


@pytest.mark.parametrize("masked", [True, False], ids=["with the mask", "without"])
@pytest.mark.parametrize("dataset", SETS)
def test_the_best_prediction_goes_down_the_line_as_it_is(
    dataset: str, masked: bool, embedded: Callable[[str], Cache], results: Path
) -> None:
    cache = embedded(dataset)
    run = made(cache, results, dataset, "best_sentiment", {"encoder": means(masked)}, params={"law": dataset})
    reached = on_test(run)
    found = stored(cache, dataset, "test")
    shown = found if masked else with_padding(found, cache)
    for name, known_of in found.law.subsets().items():
        key = name if name == "fused" else f"own_head/{name}"
        y = {s.name: found.law.shown(s, shown.steps[s.name], shown.lengths[s.name]) for s in found.law.sensors}
        wanted = found.law.posterior({one: y[one] for one in known_of}, found.lengths)
        assert reached[key] == pytest.approx(headline(dataset, wanted, found.label), abs=2e-5)
        if masked:
            assert reached[key] == pytest.approx(ON_TEST[dataset][name], abs=7e-5)
            assert not far(dataset, reached[key], ON_TEST[dataset][name])
        else:
            assert far(dataset, reached[key], ON_TEST[dataset][name]), "padding costs more than training may"


@pytest.mark.slow
@pytest.mark.parametrize("dataset", SETS)
def test_trained_mean_steps_come_near_the_best_by_the_mask_and_not_without(
    dataset: str, embedded: Callable[[str], Cache], results: Path
) -> None:
    recipe = {"epochs": 8, "optimizer": "adam", "lr": 0.01}
    for method, keys in {"joint": ["fused"], "unimodal": [f"own_head/{m}" for m in MODALITIES]}.items():
        for masked in (True, False):
            reached = on_test(made(embedded(dataset), results, dataset, method, recipe | {"encoder": means(masked)}))
            for key in keys:
                assert far(dataset, reached[key], ON_TEST[dataset][key.split("/")[-1]]) != masked, (
                    key,
                    masked,
                    reached,
                )


@pytest.mark.slow
def test_trained_mean_steps_reach_the_closed_form_of_a_linear_map(
    embedded: Callable[[str], Cache], results: Path
) -> None:
    """0.3798 by the mask and 0.4647 without it are the errors of the best linear maps, 0.3724 is the least error."""
    recipe, best = {"epochs": 8, "optimizer": "adam", "lr": 0.01}, ON_TEST["sentiment_toy"]["fused"]
    for masked, error in ((True, 0.3798), (False, 0.4647)):
        run = made(embedded("sentiment_toy"), results, "sentiment_toy", "joint", recipe | {"encoder": means(masked)})
        assert on_test(run)["fused"] / best == pytest.approx(error / 0.3724, rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", SETS)
def test_a_store_with_more_padding_gives_the_same_bits(
    dataset: str, embedded: Callable[[str], Cache], results: Path, tmp_path: Path
) -> None:
    recipe = {"epochs": 1, "encoder": {m: {"name": "gru", "params": {"width": 4}} for m in MODALITIES}}
    one = made(embedded(dataset), results, dataset, "joint", recipe)
    cache = ensure_cache(dataset, {"padding": 21}, tmp_path, load_index())
    other = made(cache, tmp_path / "results", dataset, "joint", recipe, dataset_params={"padding": 21})
    assert one.record.lengths == other.record.lengths == {"language": 16, "voice": 24}
    assert sorted(one.predictions) == sorted(other.predictions)
    for name, values in one.predictions.items():
        assert np.array_equal(values, other.predictions[name]), name
    assert one.history() == other.history()
    assert (cache.array("language")[:, 0, 16:] == PADDING).all()


# ---- tables ------------------------------------------------------------------------------------------------------
def rows(results: Path, **wanted: str) -> list[dict[str, str]]:
    """Return the rows of all_tables.csv that have some values."""
    with (results / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def make_study(study: config.Study, folder: Path) -> Path:
    """Make the data, the runs and the tables of a study; return the results."""
    results, places = folder / "results", ["--cache", str(folder / "cache")]
    write_json(results / "plan.json", study.plan().plain())
    for dataset in SETS:
        assert main(["prepare", dataset, *places]) == 0
    places += ["--results", str(results)]
    plugins = [word for path in study.plugins for word in ("--plugins", str(path))]
    for run in study.runs:
        assert main(["train", *run.command, *plugins, "--device", "cpu", *places]) == 0
    assert main(["tables", *places]) == 0
    return results


def misses(found: list[dict[str, str]], truth: dict[str, float], label: str) -> set[str]:
    """Return the modalities for which the interval of a label does not hold the true value."""
    of = {row["modality"]: row for row in found if row["label"] == label}
    assert set(of) == set(truth)
    return {m for m, row in of.items() if not float(row["ci_low"]) <= truth[m] <= float(row["ci_high"])}


@pytest.mark.slow
def test_the_best_prediction_ends_at_the_closed_form_in_the_tables(tmp_path: Path) -> None:
    labels = {"by the mask": True, "without": False}
    blocks = [
        {
            "dataset": name,
            "seeds": [0],
            "recipe_set": {"encoder": means(masked)},
            "methods": [{"method": "best_sentiment", "label": label, "params": {"law": name}}],
        }
        for name in SETS
        for label, masked in labels.items()
    ]
    results = make_study(config.study({"plugins": [str(PLUGINS)], "baseline": None, "grid": blocks}), tmp_path)
    for name, truth in POPULATION.items():
        metric = load_index().load("dataset", name).asks().headline
        values = rows(results, table="accuracy", dataset=name, metric=metric, selection="last")
        beside = rows(results, table="bayes", dataset=name, metric="difference")
        for found, wanted in ((values, truth), (beside, dict.fromkeys(truth, 0.0))):
            assert misses(found, wanted, "by the mask") == set()
            assert misses(found, wanted, "without") >= {"fused", "language"}
        less = {float(row["value"]) < 0 for row in beside if row["label"] == "without"}
        assert less == {metric == "map"}, "less precision, or more error"
        stated = rows(results, table="bayes", dataset=name, kind="bayes")
        assert {row["modality"]: float(row["value"]) for row in stated} == pytest.approx(truth, abs=5e-5)


@dataclass(frozen=True)
class Trained:
    """The results of a study of one dataset."""

    dataset: str
    results: Path


@pytest.fixture(scope="module", params=list(SETS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the results of a block of config/sentiment.yaml: two of its seeds and three of its methods."""
    shipped = read_mapping(ROOT / "config" / "sentiment.yaml", "")
    (block,) = (block for block in shipped["grid"] if block["dataset"] == request.param)
    methods = ["unimodal", "ensemble", "joint"]
    assert set(block["seeds"]) > {0, 1} and set(block["methods"]) > set(methods)
    study = config.study(shipped | {"grid": [block | {"seeds": [0, 1], "methods": methods}]})
    return Trained(request.param, make_study(study, tmp_path_factory.mktemp("trained")))


def printed(results: Path, table: str) -> dict[str, dict[str, str]]:
    """Return the lines of a printed table by their labels; of gaps those of all modalities' mean."""
    with (results / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file) if row.get("modality", "mean") == "mean"}


@pytest.mark.slow
def test_trained_runs_come_near_the_best_of_the_very_samples(trained: Trained) -> None:
    dataset = trained.dataset
    values = rows(trained.results, table="accuracy", dataset=dataset, selection="last")
    metric = {"sentiment_toy": "mae", "sentiment_toy_labels": "map"}[dataset]
    reached = {(row["label"], row["modality"]): float(row["value"]) for row in values if row["metric"] == metric}
    assert not far(dataset, reached["joint", "fused"], ON_TEST[dataset]["fused"])
    for modality in MODALITIES:
        assert not far(dataset, reached["unimodal", modality], ON_TEST[dataset][modality])
        assert far(dataset, reached["unimodal", modality], ON_TEST[dataset]["fused"]), "one alone can't reach both"


@pytest.mark.slow
def test_tables_speak_of_the_headline_and_rank_in_its_direction(trained: Trained) -> None:
    less = trained.dataset == "sentiment_toy"
    lines = printed(trained.results, "accuracy")
    ranked = {label: line for label, line in lines.items() if line["rank_low"]}
    assert set(ranked) == {"joint", "ensemble"}
    value = {label: float(line["accuracy_value"]) for label, line in ranked.items()}
    for one, first in ranked.items():
        for other, second in ranked.items():
            if int(first["rank_high"]) < int(second["rank_low"]):
                assert (value[one] < value[other]) == less, "the better one has the smaller rank"
    if less:
        assert int(ranked["joint"]["rank_high"]) < int(ranked["ensemble"]["rank_low"])
        assert float(ranked["ensemble"]["minus_joint_value"]) > 0 > float(ranked["joint"]["minus_ensemble_value"])
    (best,) = {float(line["bayes"]) for line in ranked.values()}
    assert best == pytest.approx(POPULATION[trained.dataset]["fused"], abs=5e-5)
    text = (trained.results / "tables" / "accuracy.md").read_text(encoding="utf-8")
    heading, other = ("mean absolute error", "mean average precision")[:: 1 if less else -1]
    assert heading in text and other not in text and ("less is better" in text) == less


@pytest.mark.slow
def test_a_gap_is_what_training_together_cost_whichever_way_the_metric_goes(trained: Trained) -> None:
    dataset, results = trained.dataset, trained.results
    task = load_index().load("dataset", dataset).asks()
    sign, scale = (1, 1) if not task.metric().higher else (-1, 100)
    probes: dict[tuple[str, int], dict[str, float]] = {}
    for file in results.glob(f"runs/{dataset}/*/*/*/run.json"):
        run = RunFolder.open(file.parent)
        probes[run.record.config.method, run.record.config.seed] = on_test(run)
    found = rows(results, table="competition_gap", dataset=dataset, metric="gap", selection="last", label="joint")
    gaps = {row["modality"]: float(row["value"]) for row in found if row["modality"] in MODALITIES}
    assert set(gaps) == set(MODALITIES)
    for modality, gap in gaps.items():
        key = f"probe/{modality}"
        each = [sign * (probes["joint", seed][key] - probes["unimodal", seed][key]) for seed in (0, 1)]
        assert gap == pytest.approx(scale * np.mean(each), abs=1e-6)
    assert float(printed(results, "competition_gap")["ensemble"]["gap_value"]) == 0
