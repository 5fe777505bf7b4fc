"""Gradients of some weights, taken together, and gradients of logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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


def gradients_from(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a loss, zeros where it does not depend on a weight; its graph is kept."""
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True))


def clip_gradients(parameters: Iterable[nn.Parameter], greatest: float, where: Tensor | None = None) -> Tensor:
    """Scale gradients together, in place, to a norm of at most `greatest`; return their norm before, a scalar.

    The factor is min(1, greatest / (norm + 1e-6)), as PyTorch's own clipping has it. With `where`, a bool scalar,
    nothing happens where it is False. No host waits.
    """
    found = gradients_of(parameters)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
    factor = (greatest / (norm + 1e-6)).clamp_max(1)
    if where is not None:
        factor = torch.where(where, factor, torch.ones_like(factor))
    torch._foreach_mul_(found, factor)
    return norm


class _TimesInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor.to(gradient.dtype), None


def times_in_backward(values: Tensor, factor: Tensor) -> Tensor:
    """Return the same values; the gradient that passes back through them is multiplied by `factor`."""
    out: Tensor = _TimesInBackward.apply(values, factor)  # type: ignore[no-untyped-call]
    return out
