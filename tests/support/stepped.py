"""A method beside the official step, written again without it: the same batches, the same optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from toy import BATCH, make, sgd, take, toy_data

from mmlbench.encoder import Encoder
from mmlbench.method import Batch, Method, Stage, Step
from mmlbench.params import EncoderParams

Make = Callable[[Any], torch.optim.Optimizer]
#: net (a copy of the method, of which encoders and heads alone are used), batch, step -> the reported loss; it leaves
#: gradients behind.
PlainStep = Callable[[Any, Batch, Step], Tensor]


class Smooth(Encoder):
    """Two convolutions with batch norm and tanh: without kinks, rounding does not grow over a few steps."""

    def __init__(self, shape: tuple[int, ...], params: EncoderParams) -> None:
        super().__init__(shape, params)
        convolutions = [nn.Conv2d(shape[0], 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)]
        parts = [[conv, nn.BatchNorm2d(conv.out_channels), nn.Tanh()] for conv in convolutions]
        self.layers = nn.Sequential(*parts[0], *parts[1])
        self.dim = 6

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 6)."""
        return self.layers(inputs).mean((2, 3))


def smooth(kind: type[Method], count: int = 2, **params: Any) -> Method:
    """Return a method over such encoders."""
    return make(kind, count, encoder=Smooth, **params)


@dataclass
class Trail:
    """What a few steps leave: the loss and the gradients of each, and the weights and buffers after the last."""

    losses: list[Tensor] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def keep(self, net: torch.nn.Module) -> None:
        """Keep the gradients as the optimiser gets them."""
        self.gradients.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})


def some_batches(count: int = 4, modalities: int = 2, seed: int = 3) -> list[Batch]:
    """Return a few batches of toy samples, drawn without regard to their classes."""
    data = toy_data(modalities)
    rng = torch.Generator().manual_seed(seed)
    return [take(data, torch.randperm(len(data), generator=rng)[:BATCH]) for _ in range(count)]


def step_at(stage: Stage, epoch: int, index: int) -> Step:
    """Return the step of a batch, with its random numbers."""
    return Step(stage, epoch, index, torch.Generator().manual_seed(100 * epoch + index))


def of_method(method: Method, batches: Sequence[Batch], epoch: int = 0, make: Make = sgd) -> Trail:
    """Train a method on batches of one epoch."""
    trail, stage = Trail(), method.stages()[0]
    method.train()
    optimizers = method.optimizers(stage, make)
    optimizers[0].register_step_pre_hook(lambda *_: trail.keep(method))
    for index, batch in enumerate(batches):
        trail.losses.append(method.train_step(batch, step_at(stage, epoch, index), optimizers)[0].detach())
    trail.weights = {name: value.clone() for name, value in method.state_dict().items()}
    return trail


def of_plain(method: Method, plain: PlainStep, batches: Sequence[Batch], epoch: int = 0, make: Make = sgd) -> Trail:
    """Train a copy of a method's networks by a plain step; the method is left as it is."""
    net, trail = deepcopy(method), Trail()
    net.train()
    optimizer = make(net.parameters())
    for index, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = plain(net, batch, step_at(net.stages()[0], epoch, index))
        trail.keep(net)
        optimizer.step()
        trail.losses.append(loss.detach())
    trail.weights = {name: value.clone() for name, value in net.state_dict().items()}
    return trail


def features_of(net: Any, batch: Batch) -> dict[str, Tensor]:
    """Return modality -> feature, by a plain call of each encoder."""
    return {m: net.encoders[m](x) for m, x in batch.inputs.items()}


def without(batch: Batch, *absent: str) -> Batch:
    """Return a batch in which modalities are zero."""
    return replace(batch, inputs={m: x * (m not in absent) for m, x in batch.inputs.items()})


def check_close(found: Tensor, wanted: Tensor, tolerance: float, name: str) -> None:
    """Hold a tensor equal: to the tolerance, or to some of its greatest entry's last digits where that is above 1."""
    away = float((found.double() - wanted.double()).abs().max())
    assert away <= tolerance * max(1.0, 3 * float(wanted.abs().max())), f"{name}: {away} apart"


def check_same(found: Trail, wanted: Trail, own: Sequence[str] = (), tolerance: float = 1e-6) -> None:
    """Hold losses, gradients and weights equal.

    Args:
        own: beginnings of the names that the method alone has: buffers, optimisers' further parts.
    """
    assert len(found.losses) == len(wanted.losses)
    for one, other in zip(found.losses, wanted.losses, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=tolerance)
    for k, (one, other) in enumerate(zip(found.gradients, wanted.gradients, strict=True)):
        assert one.keys() == other.keys()
        for name, gradient in other.items():
            check_close(one[name], gradient, tolerance, f"{name} of step {k}")
    for name, value in wanted.weights.items():
        if not name.startswith(tuple(own)):
            check_close(found.weights[name], value, tolerance, name)


def differs(found: Trail, wanted: Trail, own: Sequence[str] = ()) -> bool:
    """Whether `check_same` finds a difference."""
    try:
        check_same(found, wanted, own)
    except AssertionError:
        return True
    return False
