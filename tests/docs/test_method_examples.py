"""The methods that `docs/add-a-method.md` prints as files: they conform and resume, and their FLOPs are counted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick import quick_first
from stopped import differing, make
from torch.utils.flop_counter import FlopCounterMode

from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.testing.conformance import check_method
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.loop import Trainer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
#: Name of a file -> its text, as printed below the words `methods/NAME.py`.
EXAMPLES = dict(re.findall(r"`methods/(\w+)\.py`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
NAMES = ["hard_again", "look_ahead", "mean_teacher", "leave_one_out"]
CPU = torch.device("cpu")


@pytest.fixture
def folder(plugin_folder: Path) -> Path:
    """Return a plug-in folder with the examples."""
    for name, text in EXAMPLES.items():
        (plugin_folder / f"{name}.py").write_text(text, encoding="utf-8")
    use_plugins([PLUGINS, plugin_folder])
    return plugin_folder


def test_the_page_prints_them_all():
    assert list(EXAMPLES) == ["logit_norm", *NAMES]


def test_they_keep_to_the_style_of_the_project(folder):
    files = [str(folder / f"{name}.py") for name in EXAMPLES]
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml"), *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
def test_an_example_conforms(name, folder, tiny, tmp_path):
    outcomes = check_method(name, tmp_path, tiny.cache, ("tiny",))
    assert [(one.check, one.problem) for one in outcomes if one.problem] == []


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
def test_what_an_example_costs_is_counted(name, folder, tiny, monkeypatch):
    spec = tiny_spec(name, recipe={"epochs": 4, "batch_size": 6}, plugins=[folder])
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, CPU, spec.config.seed_key) for part in ("train", "val", "test")
    }
    method = build_method(spec.config, cache, load_index(), len(data["train"]))
    trainer = Trainer(method, data, spec.config.recipe, spec.config.seed_key)
    evaluate, evaluation = trainer._evaluate, []

    def apart(*words: Any) -> None:
        with FlopCounterMode(display=False) as counter:
            evaluate(*words)
        evaluation.append(counter.get_total_flops())

    monkeypatch.setattr(trainer, "_evaluate", apart)
    with FlopCounterMode(display=False) as counter:
        trainer.run()
    (per_sample,) = trainer.outcome.flops.values()
    assert per_sample * len(data["train"]) * 4 == pytest.approx(counter.get_total_flops() - sum(evaluation), rel=1e-9)


@pytest.mark.parametrize("name", quick_first(NAMES, 1))
def test_an_example_that_is_stopped_ends_with_the_same_bytes(name, folder, tiny, tmp_path):
    spec = tiny_spec(name, recipe={"epochs": 3}, plugins=[folder])
    make(spec, tiny.cache, tmp_path / "whole")
    assert make(spec, tiny.cache, tmp_path / "pieces", every=2)
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path) == []


def test_weights_of_the_look_ahead_move(folder, tiny, tmp_path):
    """The second-order step reaches what it is there for: the raw weights, which no other term touches."""
    run = tiny.run("look_ahead", tmp_path, plugins=[folder], recipe={"epochs": 3})
    with np.load(run.path / "weights-last.npz") as kept:
        assert np.abs(kept["raw"]).min() > 1e-4


def test_the_teacher_follows_and_is_not_trained(folder, tiny, tmp_path):
    run = tiny.run("mean_teacher", tmp_path, plugins=[folder], params={"decay": 1.0}, recipe={"epochs": 2})
    moving = tiny.run("mean_teacher", tmp_path, plugins=[folder], params={"decay": 0.5}, recipe={"epochs": 2})
    kept, followed = (dict(np.load(r.path / "weights-last.npz")) for r in (run, moving))
    names = [name for name in kept if name.startswith("teacher.") and name.endswith(("weight", "bias"))]
    spec = tiny_spec("mean_teacher", plugins=[folder], params={"decay": 1.0}, recipe={"epochs": 2})
    first = build_method(spec.config, Cache.open(tiny.cache / spec.cache), load_index(), 40).state_dict()
    assert names and all(np.array_equal(kept[name], first[name].numpy()) for name in names)
    assert any(not np.array_equal(followed[name], first[name].numpy()) for name in names)
