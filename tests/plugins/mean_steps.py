"""The mean step of a sequence as an encoder, with or without the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlbench import Encoder, EncoderParams, register
from mmlbench.steps import masked_mean


@register
class MeanSteps(Encoder):
    """A linear map of the mean step, which starts as the mean itself; the mask may be ignored on purpose."""

    class Params(EncoderParams):
        masked: bool = True  # else the mean counts padding

    ranks = (2,)
    takes_mask = True
    needs_mask = True

    def __init__(self, shape: tuple[int, ...], params: MeanSteps.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        self.dim = shape[1]
        self.layer = nn.Linear(self.dim, self.dim, bias=False)
        nn.init.eye_(self.layer.weight)
        self.moments: dict[str, Tensor] = {}

    def standardised_by(self, moments):
        """Keep what the inputs were standardised by."""
        self.moments = {name: torch.tensor(values, dtype=torch.float64) for name, values in moments.items()}

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, d)."""
        steps = self.layer(inputs)
        return steps.mean(1) if mask is None or not self.params.masked else masked_mean(steps, mask)
