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

    def blocks(self) -> list[nn.Module]:
        """Return the layers, each with batch norm and ReLU; `width` channels."""
        return [self.net[k : k + 3] for k in range(0, len(self.net), 3)]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what the last layer returned, (B, width): there are no positions."""
        return values

    @property
    def has_maps(self) -> bool:
        """There are none: a vector has no positions to look at."""
        return False
