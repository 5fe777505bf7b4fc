"""Methods that mix modalities, or need more than features: what is measured of one modality is of that one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.errors import RunError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.evaluation import INPUTS, Evaluation
from mmlbench.study import config as configs
from mmlbench.testing import FEW_EPOCHS, PLUGINS, tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.evaluate import check_apart, features_alone, masked_logits, mean_inputs

FOLDER = Path(__file__).parents[1] / "plugins"
CPU = torch.device("cpu")
#: As `middle`, without a word of it; with a gate that opens only in training, one that no look before it finds.
SILENT = "class Silent(Middle):\n    mixes = False\n"
LATE = """class Late(Middle):
    mixes = False

    def build(self):
        super().build()
        for gate in self.gates.values():
            torch.nn.init.zeros_(gate.weight)
"""
#: A method that has no answer without one of its modalities.
WHOLE = 'class Whole(Middle):\n    needs_all = "its gates were never trained without one of the modalities"\n'
HEAD = "import torch\nfrom mmlbench.plugins.middle import Middle\nfrom mmlbench.registry import register\n\n\n"


def built(tiny, method: str):
    """Return an untrained method and its parts."""
    spec = tiny_spec(method, plugins=[FOLDER])
    cache = Cache.open(tiny.cache / spec.cache)
    parts = {part: PartData(cache, "speaker", part, CPU, spec.config.seed_key) for part in ("train", "val", "test")}
    return build_method(spec.config, cache, load_index(), 40).eval(), parts


# --- what is measured -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["middle", "pair"])
def test_an_answer_without_a_modality_does_not_see_it(method, tiny):
    model, parts = built(tiny, method)
    fill = mean_inputs(model, parts["train"])
    data = parts["test"]
    clean = masked_logits(model, data, fill)
    alone = features_alone(model, data, fill)
    plain = data.batch

    def other_picture(*words, **named):
        batch = plain(*words, **named)
        batch.inputs["visual"] = torch.randn_like(batch.inputs["visual"])
        return batch

    data.batch = other_picture  # type: ignore[method-assign]
    assert not torch.equal(
        model.infer(data.batch(torch.arange(24))).fused, model.infer(plain(torch.arange(24))).fused
    )
    moved = masked_logits(model, data, fill)
    assert torch.equal(moved["audio",], clean["audio",]) and torch.equal(moved[()], clean[()])
    assert not torch.equal(moved["visual",], clean["visual",])
    if model.mixes:
        again = features_alone(model, data, fill)
        assert torch.equal(again["audio"], alone["audio"]) and not torch.equal(again["visual"], alone["visual"])


def test_mean_inputs_are_those_of_the_train_part(tiny):
    model, parts = built(tiny, "middle")
    found = mean_inputs(model, parts["train"])
    batch = parts["train"].batch(torch.arange(40))
    assert all(torch.allclose(found[m], batch.inputs[m].mean(0), atol=1e-6) for m in ("audio", "visual"))


def test_the_record_says_what_was_measured(tiny, tmp_path):
    options = {"plugins": [FOLDER], "recipe": {"epochs": 1}}
    assert tiny.run("joint", tmp_path, **options).record.evaluation == Evaluation()
    middle = tiny.run("middle", tmp_path, **options)
    assert middle.record.evaluation == Evaluation(INPUTS, INPUTS)
    assert "last/test/fused@mean:audio" in middle.predictions and middle.probe
    pair = tiny.run("pair", tmp_path, **options)
    assert pair.record.evaluation == Evaluation(missing=INPUTS) and "last/test/fused@zero:none" in pair.predictions


# --- what is not declared ---------------------------------------------------------------------------------------
def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(f"{HEAD}@register\n{text}")
    use_plugins([PLUGINS, FOLDER, folder])


def test_mixing_without_a_word_is_an_error_before_training(tiny, tmp_path, plugin_folder):
    write(plugin_folder, "silent", SILENT)
    with pytest.raises(RunError, match=r"the features of '\w+' that 'silent' returns depend on the input of '\w+'"):
        tiny.run("silent", tmp_path, plugins=[FOLDER])
    assert not list(tmp_path.rglob("checkpoint*"))


def test_mixing_that_training_brings_about_is_an_error_after_it(tiny, tmp_path, plugin_folder):
    write(plugin_folder, "late", LATE)
    model, parts = built(tiny, "late")
    check_apart(model, parts["test"].batch(torch.arange(4)))
    with pytest.raises(RunError, match="Set `mixes = True`"):
        tiny.run("late", tmp_path, plugins=[FOLDER])


# --- tables -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_tables_say_what_a_row_is_measured_on_or_why_it_is_blank(tiny, tmp_path, plugin_folder):
    write(plugin_folder, "whole", WHOLE)
    methods = ["joint", "unimodal", "middle", "pair", "whole"]
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0, 1], "methods": methods}
    study = configs.study({"grid": [block], "plugins": [str(PLUGINS), str(FOLDER), str(plugin_folder)]})
    index = load_index()
    for run in study.runs:
        make_run(run, index, tmp_path, tiny.cache, device="cpu")
    (tmp_path / "plan.json").write_text(json.dumps(study.plan().plain()))
    assert main(["tables", "--results", str(tmp_path), "--cache", str(tiny.cache)]) == 0
    with (tmp_path / "all_tables.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def of(table: str, metric: str, label: str, modality: str = "audio") -> dict[str, str]:
        names = {"table": table, "metric": metric, "label": label, "modality": modality, "selection": "last"}
        found = [row for row in rows if all(row[key] == value for key, value in names.items())]
        assert len(found) == 1, names
        return found[0]

    assert "features of the missing ones at their train mean" in of("subsets", "accuracy@mean", "joint")["note"]
    for label in ("middle", "pair"):
        row = of("subsets", "accuracy@mean", label)
        assert row["value"] and "missing inputs at their train mean" in row["note"]
        assert "missing inputs at their train mean" in of("reliance", "shapley@mean", label)["note"]
    assert "with the inputs of the others at their train mean" in of("competition_gap", "gap", "middle")["note"]
    for label in ("joint", "pair"):
        assert of("competition_gap", "gap", label)["value"]
        assert "mix modalities" not in of("competition_gap", "gap", label)["note"]
    for table, metric in (("subsets", "accuracy@mean"), ("competition_gap", "gap")):
        row = of(table, metric, "whole")
        assert row["value"] == "" and "its gates were never trained without one of the modalities" in row["note"]
    assert np.isfinite(float(of("accuracy", "accuracy", "whole", "fused")["value"]))
