"""An encoder without a convolution, for tests."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mmlbench import Encoder, EncoderParams, bounded, register


@register
class Flat(Encoder):
    """One linear layer over all values of a view; it has no 4-D weights."""

    class Params(EncoderParams):
        dim: int = bounded(8, low=1, doc="size of the feature")

    ranks = (2, 3)

    def __init__(self, shape: tuple[int, ...], params: Flat.Params) -> None:
        super().__init__(shape, params)
        self.dim = params.dim
        self.layer = nn.Linear(math.prod(shape), params.dim)

    def views(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim) of one view."""
        return self.layer(inputs.flatten(1)).relu()
