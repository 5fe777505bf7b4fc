"""The precision of a recipe: what it sets, where it is refused, and that rows of two are never compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_input import refused

from mmlbench.errors import ConfigError
from mmlbench.storage.atomic import read_json
from mmlbench.study import config as configs
from mmlbench.study.recipe import PRECISIONS
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.train import machine

GPU = torch.device("cuda")


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torch's switches as they were found."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_rounded_under_tf32_alone(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for was in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = was
        machine.set_up_torch(GPU, 1, precision=precision)
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert found == (precision == "tf32",) * 2


def test_a_gpu_without_tf32_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An older GPU")
    with pytest.raises(ConfigError, match=r"An older GPU has no tf32: its compute capability is 7\.5, not 8\.0"):
        machine.set_up_torch(GPU, 1, precision="tf32")


def test_tf32_on_a_cpu_is_refused_with_the_reason(tiny, tmp_path, capsys):
    words = [*tiny.words("joint", tmp_path), "--recipe-set", "precision=tf32"]
    output = refused(capsys, "train", *words)
    assert "precision tf32 is a format of NVIDIA's GPUs, and this run is on cpu. Choose `precision: fp32`" in output
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize("word", ["float32", "bfloat16", "FP32", "fp16", 32])
def test_other_words_are_refused(word):
    with pytest.raises(ConfigError, match="It takes one of fp32, tf32, bf16"):
        tiny_spec("joint", recipe={"precision": word})


def test_bf16_is_another_run_with_other_numbers(tiny, tmp_path):
    runs = {name: tiny.run("joint", tmp_path, recipe={"precision": name}) for name in ("fp32", "bf16")}
    assert runs["fp32"].record.config.recipe.name == "embedded epochs=2 batch_size=16"
    assert runs["bf16"].record.config.recipe.name.endswith("precision=bf16")
    found = {name: read_json(run.path / "run.json")["arithmetic"] for name, run in runs.items()}
    assert [(one["forward"], one["tf32"]) for one in found.values()] == [("float32", False), ("bfloat16", False)]
    one, other = (run.predictions["last/test/fused"] for run in runs.values())
    assert not np.array_equal(one, other) and np.isfinite(other).all()


def test_rows_of_two_precisions_are_never_compared(tmp_path):
    blocks = [
        {"dataset": "tiny", "seeds": [0], "methods": ["joint"], "recipe_set": {"precision": name}}
        for name in ("fp32", "bf16")
    ]
    config = {"plugins": [str(PLUGINS)], "grid": blocks}
    assert len({cell.group for cell in configs.study(config).cells}) == 2
    for name in ("fp32", "bf16"):
        file: Path = tmp_path / name / "mine.yaml"
        file.parent.mkdir()
        file.write_text(f"precision: {name}\n", encoding="utf-8")
    blocks = [
        {"dataset": "tiny", "seeds": [0], "methods": [method], "recipe": str(tmp_path / name / "mine.yaml")}
        for method, name in (("joint", "fp32"), ("unimodal", "bf16"))
    ]
    with pytest.raises(ConfigError, match="two settings of the recipe 'mine' on tiny/speaker would be compared"):
        configs.study(config | {"grid": blocks})
