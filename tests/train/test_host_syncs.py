"""A training step never waits for the device: nothing in it needs a value on the host."""

from __future__ import annotations

import pytest
import torch
from toy import NoSync

from mmlbench.method import Step
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.train.augmentation import augmentations_of
from mmlbench.train.build import build_method
from mmlbench.train.data import Noise, PartData, noise_of
from mmlbench.train.meter import Meter
from mmlbench.train.rng import generator

CPU = torch.device("cpu")
NOISY = {"noise_on": "visual", "noise_std": 0.5}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", ["joint", "ogm", "ogm_ge", "di_mml", "modality_dropout"])
def test_a_step_with_noise_on_the_inputs_needs_no_value_on_the_host(method, stream, tiny):
    spec = tiny.spec(method, recipe={**NOISY, "frames": 2, "flip": 0.5})
    recipe, key = spec.config.recipe, spec.config.seed_key
    cache = Cache.open(tiny.cache / spec.cache)
    noise, looks = noise_of(recipe), augmentations_of(recipe, cache)
    data = PartData(cache, spec.config.split, "train", CPU, key, noise, looks, stream)
    built = build_method(spec.config, cache, load_index(), len(data))
    stage = built.stages()[0]
    built.train()
    optimizers = built.optimizers(stage, lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    pieces = list(data.order(0).split(8))
    meter = Meter(len(pieces), CPU, recipe, built.task)
    views = data.views(0)
    with NoSync():
        for k, batch in enumerate(data.batches(pieces, views)):
            built.step = Step(stage, 0, k, generator(*key, k))
            meter.add(k, *built.train_step(batch, built.step, optimizers), batch.label)
    assert k == len(pieces) - 1 and noise is not None


def test_a_batch_whose_first_sample_is_not_known_on_the_host_waits(tiny):
    cache = Cache.open(tiny.cache / tiny.spec("joint").cache)
    data = PartData(cache, "speaker", "train", CPU, ("tiny", 0), Noise("visual", 0.5))
    index = torch.arange(8)
    host = index.clone()
    with NoSync():
        data.batch(index, on_host=host)
    with pytest.raises(AssertionError, match="synchronisation"), NoSync():
        data.batch(index)


def test_noise_follows_from_the_first_sample_wherever_it_was_read(tiny):
    cache = Cache.open(tiny.cache / tiny.spec("joint").cache)
    data = PartData(cache, "speaker", "train", CPU, ("tiny", 0), Noise("visual", 0.5))
    views, pieces = data.views(1), list(data.order(1).split(7))
    for index, batch in zip(pieces, data.batches(pieces, views), strict=True):
        assert torch.equal(batch.inputs["visual"], data.batch(index, views).inputs["visual"])
        other = data.batch(index, views, on_host=index[1:].cpu()).inputs["visual"]
        assert not torch.equal(batch.inputs["visual"], other)
