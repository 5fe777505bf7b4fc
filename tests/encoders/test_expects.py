"""What an encoder's weights were trained with: inputs get there as torchvision's own transforms make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from quick import quick_first
from torchvision.models import get_model, get_model_weights

from mmlbench.api.making import ensure_cache
from mmlbench.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, Expects
from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.torchvision import Torchvision, own_expects
from mmlbench.params import EncoderParams
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import PLUGINS
from mmlbench.train.augmentation import augmentations_of
from mmlbench.train.build import build_encoders
from mmlbench.train.data import PartData

FOLDER = Path(__file__).parents[1] / "plugins"
#: An encoder, and how torchvision shows pictures to it.
SHOWN = {
    "resnet18": ({"name": "resnet18"}, {}),
    "torchvision": ({"name": "torchvision:resnet18", "params": {"size": 32}}, {}),
    "others": (
        {"name": "torchvision:resnet18", "params": {"size": 32, "mean": "0.5 0.4, 0.3", "std": "0.1 0.2 0.3"}},
        {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)},
    ),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    use_plugins([PLUGINS, FOLDER])
    return ensure_cache("pictures", {}, tmp_path_factory.mktemp("pictures"), load_index())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file of a ResNet-18's weights."""
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return str(path)


def seen_by(encoder: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Return what the network of an encoder is given."""
    seen: list[torch.Tensor] = []
    encoder.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        encoder.eval()(inputs)
    return seen[0]


@pytest.mark.parametrize("frames", quick_first([2, 1], 1))
@pytest.mark.parametrize("kind", SHOWN)
def test_pictures_reach_the_network_as_torchvisions_transforms_make_them(
    kind: str, frames: int, pictures: Cache, weights: str
):
    chosen, differs = SHOWN[kind]
    params = {**chosen.get("params", {}), "weights": weights}
    fields = {"frames": frames, "encoder": {"audio": "small_cnn", "visual": {**chosen, "params": params}}}
    spec = resolve(Request("pictures", "joint", 0, recipe_params=fields), load_index())
    encoder = build_encoders(spec.config, pictures, load_index())["visual"]
    augmentations = augmentations_of(spec.config.recipe, pictures)
    data = PartData(pictures, "only", "test", torch.device("cpu"), ("pictures", 0), augmentations=augmentations)
    inputs = data.batch(torch.arange(5)).inputs["visual"]
    rows = pictures.part("only", "test").rows["visual"][:5]
    views = data.modalities["visual"].fixed[:5].flatten().tolist()
    stored = torch.from_numpy(pictures.array("visual")[rows.repeat(frames), views])
    shown = get_model_weights("resnet18").DEFAULT.transforms(crop_size=32, resize_size=32, **differs)(stored)
    torch.testing.assert_close(seen_by(encoder, inputs), shown, rtol=0, atol=1e-5)
    assert (inputs.view(shown.shape) - shown).abs().max() > 0.1, "the dataset standardises otherwise"


def test_without_weights_inputs_are_left_as_they_are(pictures: Cache):
    fields = {"encoder": {"audio": "small_cnn", "visual": "torchvision:resnet18"}}
    spec = resolve(Request("pictures", "joint", 0, recipe_params=fields), load_index())
    inputs = torch.randn(2, 3, 32, 32)
    for encoder in build_encoders(spec.config, pictures, load_index()).values():
        assert encoder.expects is None and encoder.renormalised(inputs) is inputs
    assert seen_by(encoder, inputs) is inputs


def test_standardising_is_undone_by_channel_or_as_a_whole():
    encoder = Encoder((2, 3, 3), EncoderParams())
    encoder.expect(Expects((0.5, 0.25), (0.5, 0.125)))
    values = torch.rand(4, 2, 3, 3)
    wanted = (values - torch.tensor([0.5, 0.25]).view(2, 1, 1)) / torch.tensor([0.5, 0.125]).view(2, 1, 1)
    for mean, std in ((0.3, 0.2), ((0.3, 0.1), (0.2, 0.4))):
        encoder.standardised_by({"mean": mean, "std": std})
        m, s = (torch.tensor(x).expand(2).view(2, 1, 1) for x in (mean, std))
        torch.testing.assert_close(encoder.renormalised((values - m) / s), wanted)
        frames = ((values - m) / s).unsqueeze(1).expand(4, 5, 2, 3, 3)
        torch.testing.assert_close(encoder.renormalised(frames)[:, 2], wanted)
    assert not encoder.state_dict(), "it follows from data and configuration, and is no weight"


def test_resnet18_expects_imagenets_colours_only_with_weights_and_three_channels(weights: str, tmp_path: Path):
    own = own_expects("resnet18")
    assert own.mean == IMAGENET_MEAN and own.std == IMAGENET_STD
    with_weights = ResNet18((3, 32, 32), ResNet18.Params(weights=weights))
    assert with_weights.expects == Expects(IMAGENET_MEAN, IMAGENET_STD)
    assert ResNet18((3, 32, 32), ResNet18.Params()).expects is None
    one = Torchvision((1, 32, 32), Torchvision.Params(network="resnet18"))
    torch.save({**one.net.state_dict()}, tmp_path / "one.pth")
    assert ResNet18((1, 32, 32), ResNet18.Params(weights=str(tmp_path / "one.pth"))).expects is None
