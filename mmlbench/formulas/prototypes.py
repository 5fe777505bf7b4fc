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

    The gradient of a feature that lies on a prototype is 0. Of a plain `sqrt` it would not be finite, nor would CPUs
    agree on the last digit (docs/determinism.md).

    Args:
        features: (B, d). prototypes: (C, d).

    Source: PMR (Fan et al., CVPR 2023).
    """
    return -torch.linalg.vector_norm(features.unsqueeze(1) - prototypes, dim=2)
