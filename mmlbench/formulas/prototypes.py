"""Class means of features, and how near a feature is to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def class_means(features: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean feature of each class (C, d), 0 where it has no sample, and how many it has (C,).

    Args:
        features: (n, d). label: (n,).
    """
    member = one_hot(label, classes).to(features.dtype)
    count = member.sum(0)
    return member.T @ features / count.clamp_min(1).unsqueeze(1), count


def minus_distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return -|h - c| of each sample to each prototype, (B, C), to be read as logits.

    1e-12 within the root keeps the gradient finite where a feature lies on a prototype.

    Args:
        features: (B, d). prototypes: (C, d).

    Source: PMR (Fan et al., CVPR 2023), whose code has no such term.
    """
    away = features.unsqueeze(1) - prototypes
    return -torch.sqrt(away.square().sum(2) + 1e-12)
