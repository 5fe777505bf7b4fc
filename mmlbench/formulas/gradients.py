"""Gradients of some weights, taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def gradients_of(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of the weights that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def scale_gradients(parameters: Iterable[nn.Parameter], factor: Tensor | float) -> int:
    """Multiply the gradients of some weights, in place; return how many tensors had one."""
    found = gradients_of(parameters)
    if found:
        torch._foreach_mul_(found, factor)
    return len(found)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all entries in one vector (n,)."""
    return torch.cat([tensor.flatten() for tensor in tensors])
