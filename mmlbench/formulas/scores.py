"""How sure a prediction is of the true class."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softmax


def true_class_probability(logits: Tensor, label: Tensor) -> Tensor:
    """Return softmax(z)[y] of each sample, (B,); logits (B, C), label (B,)."""
    return softmax(logits, 1).gather(1, label.unsqueeze(1)).squeeze(1)


def true_class_score(logits: Tensor, label: Tensor) -> Tensor:
    """Return s = sum over the batch of softmax(z)[y], a scalar; logits (B, C), label (B,)."""
    return softmax(logits, 1).gather(1, label.unsqueeze(1)).sum()


def mean_of_others(values: Tensor) -> Tensor:
    """Return, for each of M values, the mean of the other ones, (M,); values (M,), M of two at least."""
    return (values.sum() - values) / (len(values) - 1)
