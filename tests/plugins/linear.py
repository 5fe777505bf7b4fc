"""An encoder that is linear, for tests: what a method trains over it has its optimum in closed form."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mmlbench import Encoder, register


@register
class Linear(Encoder):
    """All values of a view, as they are, times one factor that can train."""

    ranks = (2, 3)

    def __init__(self, shape: tuple[int, ...], params: Linear.Params) -> None:
        super().__init__(shape, params)
        self.dim = math.prod(shape)
        self.layer = nn.Linear(self.dim, self.dim, bias=False)
        nn.init.eye_(self.layer.weight)

    def views(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim) of one view."""
        return self.layer(inputs.flatten(1))
