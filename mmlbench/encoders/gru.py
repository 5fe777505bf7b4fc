"""A gated recurrent network for sequences and tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..params import EncoderParams, bounded
from ..registry import register
from ..steps import Steps, masked_mean, reversed_steps


@register
class GRU(Encoder):
    """A GRU over the steps and another one over them in reverse; the feature is the mean of their real outputs.

    Takes sequences (T, d) and tokens (L,), which are embedded first. Padding comes after the real steps in both
    directions, so that no state of a real step has seen it. Weights by PyTorch's defaults.
    """

    class Params(EncoderParams):
        width: int = bounded(64, low=1, high=4096, doc="units of each direction; the feature has twice as many")

    ranks: ClassVar[tuple[int, ...]] = (1, 2)
    takes_ids: ClassVar[bool] = True
    takes_mask: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = True

    def __init__(self, shape: tuple[int, ...], params: GRU.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        self.steps = Steps(shape, params.width, vocabulary)
        self.forward_net = nn.GRU(params.width, params.width, batch_first=True)
        self.backward_net = nn.GRU(params.width, params.width, batch_first=True)
        self.dim = 2 * params.width

    def maps(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs of all steps, (B, L, 2 * width); those of padding mean nothing."""
        steps = self.steps(inputs)
        mask = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device) if mask is None else mask
        onward, _ = self.forward_net(steps)
        back, _ = self.backward_net(reversed_steps(steps, mask))
        return torch.cat([onward, reversed_steps(back, mask)], -1)

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 2 * width)."""
        found = self.maps(inputs, mask)
        return found.mean(1) if mask is None else masked_mean(found, mask)
