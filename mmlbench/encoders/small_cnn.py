"""The small strided CNN of the embedded datasets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..params import EncoderParams, bounded
from ..registry import register


class Pictures(nn.Module):
    """Signals (B, C, L) as pictures of height 1, and pictures as they are; channels last in memory."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        images = inputs.unsqueeze(2) if inputs.dim() == 3 else inputs
        return images.contiguous(memory_format=torch.channels_last)


@register
class SmallCNN(Encoder):
    """Four 3x3 convolutions with strides 2, 2, 2, 1, batch norm and ReLU, then the mean over positions.

    Takes images (C, H, W) and signals (C, L), the latter as images of height 1 with kernels 1x3. Weights by
    PyTorch's defaults. `width` is the number of channels of the first layer; the feature has 8 times as many.
    """

    class Params(EncoderParams):
        width: int = bounded(16, low=1, high=512, doc="channels of the first layer")

    ranks = (2, 3)

    def __init__(self, shape: tuple[int, ...], params: SmallCNN.Params) -> None:
        super().__init__(shape, params)
        flat = len(shape) == 2
        layers: list[nn.Module] = []
        channels = shape[0]
        for factor, stride in zip((1, 2, 4, 8), (2, 2, 2, 1), strict=True):
            kernel, step, pad = ((1, 3), (1, stride), (0, 1)) if flat else ((3, 3), (stride, stride), (1, 1))
            width = params.width * factor
            layers += [
                nn.Conv2d(channels, width, kernel, step, pad, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.pictures = Pictures()
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dim = channels

    def parts(self) -> dict[str, nn.Module]:
        """Return layer1 to layer4, each a convolution with its batch norm."""
        return {f"layer{k + 1}": self.layers[3 * k : 3 * k + 3] for k in range(4)}

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 8 * width) of one view."""
        return self.pool(self.layers(self.pictures(inputs)))

    def blocks(self) -> list[nn.Module]:
        """Return the four convolutions with batch norm and ReLU; `width` times 1, 2, 4 and 8 channels."""
        return [nn.Sequential(self.pictures, self.layers[:3]), *(self.layers[k : k + 3] for k in (3, 6, 9))]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 8 * width): the mean over positions."""
        # Over dimensions that lie next to each other in memory: so the mean's gradient keeps the fast layout.
        return values.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
