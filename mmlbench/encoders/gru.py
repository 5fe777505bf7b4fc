"""A gated recurrent network for sequences and tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..params import EncoderParams, bounded
from ..registry import register
from ..steps import Steps, masked_mean, reversed_steps


class BothWays(nn.Module):
    """One network over the steps and another one over them in reverse, their outputs side by side."""

    def __init__(self, onward: nn.GRU, back: nn.GRU) -> None:
        super().__init__()
        self.onward, self.back = onward, back

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, L, 2 * width) of values (B, L, width)."""
        onward, _ = self.onward(values)
        back, _ = self.back(reversed_steps(values, mask))
        return torch.cat([onward, reversed_steps(back, mask)], -1)


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
    channel_dim: ClassVar[int] = -1

    def __init__(self, shape: tuple[int, ...], params: GRU.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        self.steps = Steps(shape, params.width, vocabulary)
        self.forward_net = nn.GRU(params.width, params.width, batch_first=True)
        self.backward_net = nn.GRU(params.width, params.width, batch_first=True)
        self.dim = 2 * params.width

    def blocks(self) -> list[nn.Module]:
        """Return the steps as vectors and the network in both directions, `width` and twice as many channels."""
        return [self.steps, BothWays(self.forward_net, self.backward_net)]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 2 * width): the mean over real steps."""
        return masked_mean(values, mask)
