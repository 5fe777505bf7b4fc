"""What methods share that show some samples by one modality alone, the features of the others at zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def only_shown(features: Mapping[str, Tensor], alone: Tensor) -> dict[str, Tensor]:
    """Return features (B, d_m) with zeros where another modality is shown alone.

    An encoder whose feature is zero gets a gradient of zeros, so that momentum and decay still move it.

    Args:
        alone: (B,), 0 where all are shown, k where the k-th alone is.
    """
    shown = [(alone == 0) | (alone == k) for k in range(1, len(features) + 1)]
    return {m: h * seen.unsqueeze(1) for (m, h), seen in zip(features.items(), shown, strict=True)}


class ShownAlone(nn.Module):
    """What is shown at each place of an epoch, kept in buffers: an epoch that is interrupted goes on with it.

    A `Sampling` can mask inputs. Here features are masked, behind the encoders: these see each sample, and their
    running statistics move.

    Attributes:
        alone: 0 where all modalities are shown, else one more than the place of the one that is; uint8 (most,).
        place: that of the next batch, int64 scalar.
    """

    alone: Tensor
    place: Tensor

    def make_room(self, most: int) -> None:
        """Add the buffers, for epochs of so many samples at most."""
        self.register_buffer("alone", torch.zeros(most, dtype=torch.uint8))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def lay_out(self, alone: Tensor) -> None:
        """Take over what an epoch shows at each of its places, (n,), and go to the first."""
        self.alone.zero_()
        self.alone[: len(alone)] = alone.to(self.alone.dtype)
        self.place.zero_()

    def next_alone(self, count: int) -> Tensor:
        """Return what is shown at the next places, (count,), and go on behind them."""
        found = self.alone[self.place + torch.arange(count, device=self.place.device)]
        self.place += count
        return found
