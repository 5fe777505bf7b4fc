"""Noise on one modality: a recipe of its own, the same test noise for all seeds, and nothing where it is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmlbench.errors import ConfigError
from mmlbench.prepare.cache import Cache
from mmlbench.train.data import Noise, PartData
from mmlbench.train.energy import EnergyMeter


def part_data(tiny, part: str, seed: int, noise: Noise | None) -> PartData:
    folder = next(tiny.cache.glob("tiny-*"))
    cache = Cache.open(folder)
    split = next(iter(cache.manifest["splits"]))
    return PartData(cache, split, part, torch.device("cpu"), ("tiny", seed), noise)


def test_noise_is_on_one_modality_and_the_same_for_all_seeds_at_test(tiny) -> None:
    clean = next(iter(part_data(tiny, "test", 0, None).in_order()))
    first, *others = clean.inputs
    noisy = [next(iter(part_data(tiny, "test", seed, Noise(first, 0.5)).in_order())) for seed in (0, 1)]
    assert torch.equal(noisy[0].inputs[first], noisy[1].inputs[first])
    added = noisy[0].inputs[first] - clean.inputs[first]
    assert float(added.std()) == pytest.approx(0.5, rel=0.1) and abs(float(added.mean())) < 0.05
    assert all(torch.equal(noisy[0].inputs[m], clean.inputs[m]) for m in others)


def test_training_noise_is_new_each_epoch_and_each_seed(tiny) -> None:
    def seen(seed: int, epoch: int) -> torch.Tensor:
        data = part_data(tiny, "train", seed, Noise(name, 1.0))
        clean = part_data(tiny, "train", seed, None)
        index = torch.arange(8)
        views = data.views(epoch)
        return data.batch(index, views).inputs[name] - clean.batch(index, views).inputs[name]

    name = next(iter(part_data(tiny, "train", 0, None).modalities))
    assert torch.allclose(seen(0, 0), seen(0, 0))
    assert not torch.allclose(seen(0, 0), seen(0, 1)) and not torch.allclose(seen(0, 0), seen(1, 0))


def test_recipes_with_and_without_noise(tiny, tmp_path) -> None:
    plain, off = tiny.spec("joint"), tiny.spec("joint", recipe={"noise_std": 0.0})
    assert plain.config.hash == off.config.hash and plain.config.recipe.noise_std == 0.0
    name = next(iter(plain.config.recipe.encoder))
    noisy = tiny.spec("joint", recipe={"noise_on": name, "noise_std": 0.3})
    assert noisy.config.recipe.name != plain.config.recipe.name, "another recipe, never compared"
    with pytest.raises(ConfigError, match="unknown modality 'smell'"):
        tiny.spec("joint", recipe={"noise_on": "smell", "noise_std": 0.3})
    with pytest.raises(ConfigError, match="needs both"):
        tiny.spec("joint", recipe={"noise_std": 0.3})
    runs = [tiny.run("joint", tmp_path, recipe=recipe) for recipe in ({}, {"noise_on": name, "noise_std": 2.0})]
    assert not np.array_equal(*(run.predictions["last/test/fused"] for run in runs))


def test_energy_is_none_where_no_driver_counts_it() -> None:
    assert EnergyMeter(torch.device("cpu")).joules(0) is None
