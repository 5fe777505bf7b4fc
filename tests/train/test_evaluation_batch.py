"""How many samples an evaluation forward takes: by the shapes alone, everywhere, and 512 for the shipped datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_spec import Request, resolve
from mmlbench.train import data as train_data
from mmlbench.train.augmentation import augmentations_of
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData, evaluation_batch
from mmlbench.train.evaluate import features
from mmlbench.train.robustness import under_noise

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = sorted({b["dataset"] for b in yaml.safe_load((ROOT / "config/embedded.yaml").read_text())["grid"]})


def values(dataset: str, recipe: str) -> int:
    """Return the values of one sample's inputs."""
    config = resolve(Request(dataset, "joint", 0, recipe=recipe), load_index()).config
    kind = load_index().load("dataset", dataset)
    modalities = kind(kind.Params(**config.dataset_params)).modalities
    shapes = [(config.recipe.frames_of(m), *config.recipe.shape_of(m)) for m in modalities]
    return sum(torch.Size(shape).numel() for shape in shapes)


@pytest.mark.parametrize("dataset", EMBEDDED)
def test_no_number_of_a_shipped_dataset_depends_on_the_rule(dataset):
    assert evaluation_batch(4 * values(dataset, "embedded")) == 512, "with room to spare"


def test_full_size_pictures_take_less():
    assert evaluation_batch(values("cremad", "dimml")) == 32
    sizes = (1, 2**16, 2**16 + 1, 2**17, 2**25, 2**40)
    assert [evaluation_batch(size) for size in sizes] == [512, 512, 256, 256, 1, 1]


@pytest.mark.parametrize("recipe", [{}, {"frames": 3}, {"frames": 2, "crop": "random", "crop_size": 4}])
@pytest.mark.parametrize("stream", [False, True])
def test_the_values_of_a_sample_are_those_that_encoders_get(recipe, stream, tiny):
    cache = Cache.open(tiny.cache / tiny.spec("joint").cache)
    looks = augmentations_of(Recipe(**recipe), cache)
    data = PartData(cache, "speaker", "test", torch.device("cpu"), ("tiny", 0), None, looks, stream)
    batch = next(iter(data.in_order()))
    for name, resident in data.modalities.items():
        assert resident.shown == batch.inputs[name][0].numel()
    assert data.evaluation_batch == 512


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which every forward of an encoder in evaluation adds its samples."""
    found: list[int] = []
    forward: Callable[..., torch.Tensor] = SmallCNN.forward

    def noted(self: SmallCNN, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training:
            found.append(len(inputs))
        return forward(self, inputs)

    monkeypatch.setattr(SmallCNN, "forward", noted)
    return found


def test_without_the_rule_a_small_part_is_one_forward(tiny, seen):
    spec = tiny.spec("joint")
    cache = Cache.open(tiny.cache / spec.cache)
    data = PartData(cache, "speaker", "train", torch.device("cpu"), ("tiny", 0))
    features(build_method(spec.config, cache, load_index(), len(data)), data)
    assert set(seen) == {len(data)} and len(data) > 16


@pytest.mark.parametrize("method", ["joint", "di_mml", "middle"])
def test_every_evaluation_obeys(method, tiny, tmp_path, seen, monkeypatch):
    """`middle` mixes the modalities, so it is asked again with inputs filled in."""
    monkeypatch.setattr(train_data, "evaluation_batch", lambda values: 16)
    run = tiny.run(method, tmp_path, plugins=[ROOT / "tests" / "plugins"])
    if method == "joint":
        under_noise(run, tmp_path, Cache.open(tiny.cache / tiny.spec(method).cache), load_index(), [0.5], "cpu")
    assert max(seen) == 16
