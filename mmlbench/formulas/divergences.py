"""How far apart two predictions are, in nats, mean over the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax


def kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 mean KL(softmax(target / T) || softmax(logits / T)), a scalar; both (B, C) logits.

    Gradients flow into both: detach a teacher's logits. Source: distillation (Hinton et al. 2015).
    """
    one, other = log_softmax(target / temperature, 1), log_softmax(logits / temperature, 1)
    return temperature**2 * kl_div(other, one, reduction="batchmean", log_target=True)


def js(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence of softmax(one) and softmax(other), a scalar from 0 to log 2.

    Args:
        one, other: logits (B, C).
    """
    p, q = log_softmax(one, 1), log_softmax(other, 1)
    middle = torch.logaddexp(p, q) - math.log(2)
    parts = [kl_div(middle, side, reduction="batchmean", log_target=True) for side in (p, q)]
    return (parts[0] + parts[1]) / 2
