"""Fixed shares of branches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def by_first_share(logits: Sequence[Tensor], first: float) -> Tensor:
    """Return first z_1 + (1 - first) times the mean of the other ones, (B, C).

    Args:
        logits: K of two at least, each (B, C). first: the first one's share, 0 to 1.
    """
    return first * logits[0] + (1 - first) * torch.stack(list(logits[1:])).mean(0)
