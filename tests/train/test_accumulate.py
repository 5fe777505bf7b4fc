"""Gradients of several batches added up: the step of the large batch, and who can't have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmlbench.errors import ConfigError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.study import config as configs
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.loop import Trainer
from mmlbench.train.steps import Piece, pieces

FOLDER = Path(__file__).resolve().parents[1] / "plugins"
#: Convolutions without batch norm, whose statistics would be those of the small batches.
BARE = '''
from torch import nn
from mmlbench import Encoder, register

@register
class Bare(Encoder):
    """Two convolutions of pictures and the mean over positions."""

    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim = 6
        self.net = nn.Sequential(nn.Conv2d(shape[0], 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())

    def views(self, inputs):
        return self.net(inputs).mean((2, 3))
'''
WATCHING = '''
from mmlbench import register
from mmlbench.methods.joint import Joint

@register
class Watching(Joint):
    """Joint training with an eye on the gradients."""

    def after_backward(self, step):
        self.record(size=self.head.out.weight.grad.norm())
'''


def weights(tiny, method: str, fields: dict, folder: Path, **params: object) -> dict[str, torch.Tensor]:
    """Return a method's weights after training with encoders without batch norm."""
    (folder / "bare.py").write_text(BARE, encoding="utf-8")
    spec = tiny_spec(method, encoder="bare", recipe=fields, params=params, plugins=[folder])
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    built = build_method(spec.config, cache, load_index(), len(data["train"]))
    Trainer(built, data, spec.config.recipe, spec.config.seed_key).run()
    return {name: value.clone() for name, value in built.state_dict().items()}


# --- the batches ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("samples", [2, 3, 16, 17, 40, 41, 97])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (4, 3), (2, 8), (5, 2)])
def test_an_epoch_has_the_steps_of_the_large_batch_cut_small(samples, batch_size, accumulate):
    found = pieces(samples, batch_size, accumulate)
    assert [one.start for one in found] == [0, *(one.stop for one in found[:-1])] and found[-1].stop == samples
    large = batch_bounds(samples, batch_size * accumulate)
    for step, (start, stop) in enumerate(large):
        own = [one for one in found if one.step == step]
        assert (own[0].start, own[-1].stop) == (start, stop)
        assert sum(one.share for one in own) == pytest.approx(1)
        assert [one.share * (stop - start) for one in own] == pytest.approx([one.stop - one.start for one in own])
        assert [one.first for one in own] == [True] + [False] * (len(own) - 1)
        assert [one.last for one in own] == [False] * (len(own) - 1) + [True]
    assert max(one.stop - one.start for one in found) <= batch_size + 1
    assert min(one.stop - one.start for one in found) >= 2


def test_without_it_batches_are_what_they_were():
    for samples in (1, 2, 40, 41):
        assert pieces(samples, 4) == tuple(Piece(*b, step) for step, b in enumerate(batch_bounds(samples, 4)))


# --- the large batch --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "params", "fields"),
    [
        ("joint", {}, {}),
        ("mslr", {"memory": 1}, {}),
        ("joint", {}, {"schedule": "cosine", "warmup": 0.5, "clip_grad": 0.02}),
        ("ogm", {"end": 1.0}, {}),
        ("unimodal", {}, {"optimizer": "adamw", "lr": 1e-3}),
        ("joint_unimodal_losses", {}, {}),
    ],
)
def test_it_trains_as_the_large_batch_does(method, params, fields, tiny, plugin_folder):
    """40 samples: batches of 8 by 5 + 3, or by 4 + 4."""
    base = {"epochs": 3, **fields}
    large = weights(tiny, method, {**base, "batch_size": 8}, plugin_folder, **params)
    small = weights(tiny, method, {**base, "batch_size": 4, "accumulate": 2}, plugin_folder, **params)
    alone = weights(tiny, method, {**base, "batch_size": 4}, plugin_folder, **params)
    gap = {name: float((small[name] - value).abs().max()) for name, value in large.items()}
    assert max(gap.values()) < 1e-6, gap
    assert max(float((alone[name] - value).abs().max()) for name, value in large.items()) > 1e-4, "the counter-test"


@pytest.mark.parametrize("batch_size", [5, 3])
def test_batches_of_unequal_sizes_weigh_by_their_samples(batch_size, tiny, plugin_folder):
    """Steps of 15 are 15, 15 and 10 of 40 samples; of batches of 3 the last one has 1 more."""
    accumulate = 15 // batch_size
    large = weights(tiny, "joint", {"batch_size": 15}, plugin_folder)
    small = weights(tiny, "joint", {"batch_size": batch_size, "accumulate": accumulate}, plugin_folder)
    assert max(float((small[name] - value).abs().max()) for name, value in large.items()) < 1e-6


# --- what is refused --------------------------------------------------------------------------------------------
def planned(method: str, folders: list[Path], **fields: object) -> str:
    """Return the error of planning a run of a method."""
    block = {"dataset": "tiny", "seeds": [0], "methods": [method], "recipe_set": {"epochs": 2, **fields}}
    with pytest.raises(ConfigError) as caught:
        configs.study({"plugins": [str(folder) for folder in folders], "grid": [block]})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_method_with_steps_of_its_own_is_refused_when_planned(plugin_folder):
    (plugin_folder / "watching.py").write_text(WATCHING, encoding="utf-8")
    message = planned("alternating", [PLUGINS, FOLDER], batch_size=8, accumulate=2)
    assert "alternating can't train with `accumulate: 2`: it has a train_step of its own" in message
    message = planned("watching", [PLUGINS, plugin_folder], batch_size=8, accumulate=2)
    assert "watching can't train with `accumulate: 2`: it works on the gradients of each batch" in message
    message = planned("joint", [PLUGINS], batch_size=64, accumulate=2)
    assert "`accumulate: 2` has no effect: 40 samples are one batch" in message


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", 5000])
def test_numbers_that_make_no_sense_are_refused(value):
    with pytest.raises(ConfigError, match=r"accumulate = .* is not valid"):
        tiny_spec("joint", recipe={"accumulate": value})


def test_a_method_that_says_that_it_holds_is_trained(tiny, tmp_path, plugin_folder):
    text = WATCHING.replace("    def after", "    accumulates = True\n\n    def after")
    (plugin_folder / "watching.py").write_text(text, encoding="utf-8")
    run = tiny.run("watching", tmp_path, recipe={"batch_size": 8, "accumulate": 2}, plugins=[plugin_folder])
    config = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["config"]
    assert config["recipe"]["accumulate"] == 2 and "accumulate=2" in config["recipe"]["name"]
