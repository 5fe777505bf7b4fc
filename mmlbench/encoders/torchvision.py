"""torchvision's image and video classification networks, each by its name."""

from __future__ import annotations

import re
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from ..encoder import Encoder, Expects
from ..errors import ConfigError
from ..files import File
from ..params import EncoderParams, bounded, choice, file_field
from ..registry import register
from ..weights import load_weights

#: The networks for clips, and all of them, as the installed torchvision has them.
VIDEO = tuple(list_models(module=torchvision.models.video))
NETWORKS = (*list_models(module=torchvision.models), *VIDEO)
#: Starts of names in torchvision's files of weights that training alone uses.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as '0.5 0.5 0.5'.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        return tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        raise ConfigError(f"{text!r} is no row of numbers", "Write one per channel: '0.485 0.456 0.406'") from None


def own_expects(network: str) -> Expects:
    """Return what torchvision's own weights of a network are fed with; of several files the one it recommends.

    Source: the `transforms` of the enumeration of weights in the installed torchvision.
    """
    shown = get_model_weights(network).DEFAULT.transforms()
    height, width = (*shown.crop_size, *shown.crop_size)[:2]
    return Expects(tuple(shown.mean), tuple(shown.std), (height, width))


def _options(network: str, shape: tuple[int, ...], trained: bool) -> dict[str, Any]:
    """Return how a network is built for inputs of a shape: without auxiliary classifiers, for that size."""
    height, width = shape[-2:]
    if network in ("googlenet", "inception_v3"):  # their weights take inputs that the network itself moves
        return {"aux_logits": False, "init_weights": True, "transform_input": trained}
    if network.startswith("vit_"):
        return {"image_size": height}
    if network.startswith("maxvit"):
        return {"input_size": (height, width)}
    return {}


def build(network: str, shape: tuple[int, ...], trained: bool) -> nn.Module:
    """Return a network with drawn weights.

    RegNets compute their widths by tensors, which hold nothing on the device `meta`: they are built on the CPU.
    """
    where = torch.empty(0).device
    with torch.device("cpu" if network.startswith("regnet") else where):
        net: nn.Module = get_model(network, weights=None, **_options(network, shape, trained))
    return net.to(where)


def take_classifier(net: nn.Module) -> tuple[str, int]:
    """Put an identity in place of the last layer with weights; return its name and the size of what it takes."""
    layers = [
        (name, part) for name, part in net.named_modules() if isinstance(part, nn.Linear | nn.Conv2d | nn.Conv3d)
    ]
    name, layer = layers[-1]
    net.set_submodule(name, nn.Identity())
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def take_channels(net: nn.Module, channels: int) -> None:
    """Let the first convolution take another number of channels, with Kaiming normal weights (fan out)."""
    layers = ((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Conv3d))
    name, first = next(layers)
    if first.in_channels == channels:
        return
    kind: Any = type(first)
    sizes = (first.kernel_size, first.stride, first.padding)
    other = kind(channels, first.out_channels, *sizes, bias=first.bias is not None)
    nn.init.kaiming_normal_(other.weight, mode="fan_out", nonlinearity="relu")
    net.set_submodule(name, other)


def present_name(name: str) -> str:
    """Return the present name of a weight; torchvision's files of DenseNets have older ones, `norm.1` for `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


@register
class Torchvision(Encoder):
    """One of torchvision's image or video classification networks: `torchvision:resnet50`, `torchvision:r3d_18`.

    Its last layer of weights, the classifier, is left out; the feature is what that layer takes. All else is
    torchvision's, dropout and initial weights included. Other than three channels are taken from scratch alone: then
    the first convolution is another one, with Kaiming normal weights (fan out).

    Image networks take (C, H, W); the features of several frames are averaged. A video network takes the frames that
    the recipe shows at once, (B, T, C, H, W), as one clip, or a modality of shape (C, T, H, W). MViT takes 16
    frames of 224 pixels; vision transformers and MaxViT are built for the size of the modality.

    `weights` names a state dict of the same network, as torchvision publishes it or as `torch.save` writes it. The
    inputs are then normalised as torchvision normalises them for the weights that it recommends, and have to have
    their size; `mean`, `std` and `size` say otherwise for other weights. GoogLeNet and Inception v3 with weights
    transform their inputs as torchvision's do.

    Source: torchvision.models of the installed version.
    """

    class Params(EncoderParams):
        network: str | None = choice(None, NETWORKS, doc="its name in torchvision")
        weights: File | None = file_field(doc="state dict to start from; its classifier is left out")
        size: int = bounded(0, low=0, high=4096, doc="pixels a side that the weights take; 0: as torchvision's own")
        mean: str = ""  # per channel, of the weights' inputs from 0 to 1: '0.5 0.5 0.5'; '': torchvision's
        std: str = ""  # the same of the standard deviation

    named_by = "network"
    ranks = (3, 4)

    def __init__(self, shape: tuple[int, ...], params: Torchvision.Params) -> None:
        super().__init__(shape, params)
        network = params.network
        if network is None:
            raise ConfigError("the encoder 'torchvision' names no network", "Write torchvision:resnet18")
        self.video = network in VIDEO
        if len(shape) == 4 and not self.video:
            raise ConfigError(f"{self.title} takes pictures (C, H, W), not {list(shape)}", f"Take {', '.join(VIDEO)}")
        trained = params.weights is not None
        if trained:
            self.expect(self._expected(network, params))
        elif params.size or params.mean or params.std:
            what = f"{self.title} has no weights, and size, mean and std say what weights were trained with"
            raise ConfigError(what, "Name the file by weights=, or leave them out")
        self.net = build(network, self.shape, trained)
        self.classifier, self.dim = take_classifier(self.net)
        if params.weights is not None:
            load_weights(self.net, params.weights, (f"{self.classifier}.", *AUXILIARY), present_name)
        else:
            take_channels(self.net, shape[0])

    def _expected(self, network: str, params: Torchvision.Params) -> Expects:
        """Return what the weights were trained with: as the parameters say, else as torchvision's own."""
        own = own_expects(network)
        mean, std = numbers(params.mean) or own.mean, numbers(params.std) or own.std
        if len(mean) != len(std) or min(std) <= 0:
            what = f"{self.title}: mean and std have {len(mean)} and {len(std)} numbers, or a std is not positive"
            raise ConfigError(what, "Write one number per channel in both")
        return Expects(mean, std, (params.size, params.size) if params.size else own.size)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim); a video network takes (B, T, C, H, W) as one clip of T frames."""
        if not self.video or len(self.shape) == 4:
            return super().forward(inputs)
        clip = inputs if inputs.dim() == 5 else inputs.unsqueeze(1)
        return self.views(self.renormalised(clip).transpose(1, 2))

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of pictures (B, C, H, W) or clips (B, C, T, H, W)."""
        return self.net(inputs).flatten(1)
