"""ResNet-18 as the papers of this field use it."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from ..encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, Expects
from ..errors import ConfigError
from ..files import File
from ..params import EncoderParams, choice, file_field
from ..registry import register
from ..weights import load_weights


@register
class ResNet18(Encoder):
    """ResNet-18 without its classifier: a 7x7 stem for any number of channels, then the mean over positions, 512.

    Random initial weights, two of which circulate; convolutions are Kaiming normal (fan out) in both:

    - `bn_normal` (default): batch norm weights from N(1, 0.02), biases 0: the ResNet file that OGM-GE, PMR and
      DI-MML share. What DI-MML's first stage and its joint baseline train from.
    - `bn_ones`: batch norm weights 1, biases 0: what is left after the `weight_init` that OGM-GE, PMR and
      DI-MML's second stage apply to the whole model; torchvision's own as well.

    `weights` names a state dict of torchvision's ResNet-18 to start from instead; its classifier is left out. Of
    three channels it is taken for one of ImageNet: pictures are normalised as they are there, at any size.
    `torchvision:resnet18` takes weights that were trained otherwise. Nothing is frozen.

    The Xavier weights that `weight_init` gives linear layers concern heads, which are the methods' own.
    """

    class Params(EncoderParams):
        init: str = choice("bn_normal", ("bn_normal", "bn_ones"), doc="batch norm weights: N(1, 0.02) or 1")
        weights: File | None = file_field(doc="state dict of torchvision's ResNet-18 to start from")

    def __init__(self, shape: tuple[int, ...], params: ResNet18.Params) -> None:
        super().__init__(shape, params)
        if params.weights is not None and params.init != "bn_normal":
            what = f"{self.title} starts from weights, so init={params.init} would do nothing"
            raise ConfigError(what, "Leave out init, or weights")
        self.net = torchvision.models.resnet18(weights=None, num_classes=1)
        self.net.conv1 = nn.Conv2d(shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.net.fc = nn.Identity()
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d) and params.init == "bn_normal":
                nn.init.normal_(module.weight, 1.0, 0.02)
        if params.weights is not None:
            if shape[0] == len(IMAGENET_MEAN):
                self.expect(Expects(IMAGENET_MEAN, IMAGENET_STD))
            load_weights(self.net, params.weights, drop=("fc.",))
        self.dim = 512

    def parts(self) -> dict[str, nn.Module]:
        """Return the stem (the first convolution and its batch norm) and layer1 to layer4."""
        stem = nn.Sequential(self.net.conv1, self.net.bn1)
        return {"stem": stem, **{f"layer{k}": getattr(self.net, f"layer{k}") for k in range(1, 5)}}

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 512) of one view."""
        return self.net(inputs)

    def blocks(self) -> list[nn.Module]:
        """Return the stem and the four layers, 64, 64, 128, 256 and 512 channels."""
        net = self.net
        return [
            nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool),
            net.layer1,
            net.layer2,
            net.layer3,
            net.layer4,
        ]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 512): the mean over positions."""
        return self.net.avgpool(values).flatten(1)
