"""A multi-layer perceptron for vectors of features."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from ..encoder import Encoder
from ..params import EncoderParams, bounded
from ..registry import register


@register
class MLP(Encoder):
    """Linear layers, each with batch norm and ReLU; the last one's output is the feature.

    Takes vectors (d,). Weights by PyTorch's defaults.
    """

    class Params(EncoderParams):
        width: int = bounded(128, low=1, high=8192, doc="units of each layer, and size of the feature")
        layers: int = bounded(2, low=1, high=16, doc="number of layers")

    ranks: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, shape: tuple[int, ...], params: MLP.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        sizes = [shape[0], *[params.width] * params.layers]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.net = nn.Sequential(*layers)
        self.dim = params.width

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, width) of vectors (B, d)."""
        found: Tensor = self.net(inputs)
        return found
