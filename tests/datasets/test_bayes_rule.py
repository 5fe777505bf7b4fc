"""The Bayes rule of each gabor set, sent down the whole line as a method, ends at the closed-form accuracy."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from pathlib import Path

import pytest

from mmlbench.cli import main
from mmlbench.storage.atomic import write_json
from mmlbench.study import config

RULE = Path(__file__).parents[1] / "plugins" / "bayes_rule.py"
MODALITIES = {
    "gabor_tones": ["audio", "visual"],
    "gabor_nuisance": ["audio", "visual"],
    "gabor_tones_pulse": ["audio", "visual", "pulse"],
}
#: Errors put in on purpose -> where they must show. Alone, a latent on a line is as near to its class whatever the
#: noise is taken to be; only the weight of the modalities in the fused rule changes.
WRONG = {
    "wrong noise": ({"noise": 8.0}, {"fused"}),
    "swapped": ({"swap": True}, {"fused", "audio", "visual"}),
}


def grid(dataset: str) -> dict:
    """Return a study of the right rule and of the wrong ones; the encoders have no part in them, so they are thin."""
    encoder = {m: {"name": "small_cnn", "params": {"width": 1}} for m in MODALITIES[dataset]}
    rows = [{"method": "bayes_rule", "params": {"rule": dataset}}]
    rows += [{"method": "bayes_rule", "label": n, "params": {"rule": dataset, **p}} for n, (p, _) in WRONG.items()]
    return {"dataset": dataset, "recipe_set": {"encoder": encoder}, "seeds": [0], "methods": rows}


def table(results: Path, **wanted: str) -> list[dict[str, str]]:
    """Return the rows of all_tables.csv that have some values."""
    with (results / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]


def outside(rows: list[dict[str, str]], truth: dict[str, float], label: str) -> set[str]:
    """Return the modalities for which the interval of a label does not hold the true value."""
    found = {row["modality"]: row for row in rows if row["label"] == label}
    assert set(found) == set(truth)
    return {m for m, row in found.items() if not float(row["ci_low"]) <= truth[m] <= float(row["ci_high"])}


@pytest.mark.parametrize("dataset", MODALITIES)
@pytest.mark.slow
def test_the_bayes_rule_reaches_the_closed_form(dataset, plugin_folder, tmp_path, capsys):
    shutil.copy(RULE, plugin_folder)
    results, places = tmp_path / "results", ["--cache", str(tmp_path / "cache")]
    study = config.study({"plugins": [str(plugin_folder)], "grid": [grid(dataset)]})
    write_json(results / "plan.json", study.plan().plain())
    assert main(["prepare", dataset, *places]) == 0
    places += ["--results", str(results)]
    for run in study.runs:
        assert main(["train", *run.command, "--plugins", str(plugin_folder), "--device", "cpu", *places]) == 0
    assert main(["tables", *places]) == 0

    module = importlib.import_module(f"mmlbench.datasets.{dataset}")
    (kind,) = (one for one in vars(module).values() if getattr(one, "name", "") == dataset)
    truth = kind().bayes()
    assert set(truth) == {"fused", *MODALITIES[dataset]}
    rows = table(results, table="accuracy", metric="accuracy", selection="last")
    assert {row["n_test"] for row in rows} == {str(kind.splits["iid"].counts["test"])}
    assert outside(rows, truth, "bayes_rule") == set()
    for label, (_, where) in WRONG.items():
        assert outside(rows, truth, label) == where

    beside = table(results, table="bayes", metric="difference")
    assert outside(beside, dict.fromkeys(truth, 0.0), "bayes_rule") == set()
    stated = {row["modality"]: float(row["value"]) for row in table(results, table="bayes", kind="bayes")}
    assert stated == pytest.approx(truth, abs=1e-6)
    assert not table(results, table="competition_gap")

    capsys.readouterr()
    assert main(["score", "--json", *(str(results / run.path) for run in study.runs)]) == 0
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fused = [row for row in scores if (row["selection"], row["part"], row["logits"]) == ("last", "test", "fused")]
    by_label = {row["label"]: float(row["value"]) for row in rows if row["modality"] == "fused"}
    assert [row["value"] for row in fused if row["metric"] == "accuracy"] == list(by_label.values())
    right, *wrong = (row["value"] for row in fused if row["metric"] == "nll")
    assert all(right < other for other in wrong)
