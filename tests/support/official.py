"""What tests of published methods share: steps told again plainly, and runs that stop inside a mechanism."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import stopped
import torch
import toy
from torch import Tensor, nn
from torch.testing import assert_close
from toy import BATCH, SAMPLES, set_modes, take, toy_data

from mmlbench.encoder import Encoder
from mmlbench.method import Batch, Method, Step
from mmlbench.params import EncoderParams
from mmlbench.testing import tiny_spec

#: A copy of the method, a batch and the step: leaves gradients and returns the loss. It must not call the method.
Plain = Callable[[Any, Batch, Step], Tensor]


class StandIn(Encoder):
    """A convolution with batch norm, and a linear layer: smooth, so that two tellings stay together."""

    def __init__(self, shape: tuple[int, ...], params: EncoderParams) -> None:
        super().__init__(shape, params)
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, 2, bias=False), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten())
        self.out, self.dim = nn.Linear(27, 5), 5

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, 5)."""
        return self.out(self.layers(inputs))


def stand_in(kind: type[Method], modalities: int = 2, epochs: int = 4, **params: Any) -> Any:
    """Return a built method over stand-in encoders of fixed initial weights."""
    return toy.make(kind, modalities, epochs, StandIn, **params)


def torch_sgd(parameters: Any, rate: float = 0.05) -> torch.optim.Optimizer:
    """Return SGD with momentum and weight decay, which move weights of gradient zero, but not those without any."""
    return torch.optim.SGD(list(parameters), lr=rate, momentum=0.9, weight_decay=1e-2)


def step_of(method: Method, epoch: int = 0, index: int = 0, stage: int = 0) -> Step:
    """Return a step of a stage, by default the first, with a generator of its own."""
    return Step(method.stages()[stage], epoch, index, torch.Generator().manual_seed(1000 + 10 * epoch + index))


def batch_of(method: Method, index: int) -> Batch:
    """Return one of the toy's batches, the same for an index."""
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(index // (SAMPLES // BATCH)))
    return take(toy_data(len(method.modalities)), order.split(BATCH)[index % (SAMPLES // BATCH)])


def _in_double(method: Any) -> Any:
    """Return a method that computes in float64, where a slip can't hide in rounding; `encode` would round.

    One of its own is left as it is: the stand-ins' `finish` has to keep float64 then.
    """
    if type(method).encode is not Method.encode:
        return method.double()

    def encode(batch: Batch, only: Any = None, encoders: Any = None) -> dict[str, Tensor]:
        chosen = method.encoders if encoders is None else encoders
        return {m: chosen[m](batch.inputs[m]) for m in only or method.modalities}

    method.double().encode = encode
    return method


def check_steps(
    method: Method, plain: Plain, steps: int = 5, epoch: int = 0, rate: float = 0.05, place: int = 0
) -> None:
    """Train a method beside the plain telling of its step, on a copy: losses, gradients, weights and buffers agree.

    All is computed in float64.

    Args:
        place: of the stage.

    Raises:
        AssertionError: they part.
    """
    other, method = deepcopy(method).double(), _in_double(method)
    stage = method.stages()[place]
    set_modes(method, stage), set_modes(other, other.stages()[place])
    optimizers = method.optimizers(stage, partial(torch_sgd, rate=rate))
    optimizer = torch_sgd((p for p in other.parameters() if p.requires_grad), rate)
    for index in range(steps):
        batch = batch_of(method, index)
        batch = replace(batch, inputs={m: x.double() for m, x in batch.inputs.items()})
        loss, _ = method.train_step(batch, step_of(method, epoch, index, place), optimizers)
        optimizer.zero_grad(set_to_none=True)
        expected = plain(other, batch, step_of(method, epoch, index, place))
        _check_close("loss", loss.detach(), expected.detach())
        for (name, ours), theirs in zip(method.named_parameters(), other.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None), name
            if ours.grad is not None:
                _check_close(f"gradient of {name}", ours.grad, theirs.grad)
        optimizer.step()
        for (name, ours), theirs in zip(method.state_dict().items(), other.state_dict().values(), strict=True):
            _check_close(name, ours, theirs)


def _check_close(name: str, ours: Tensor, theirs: Tensor) -> None:
    """Compare two tensors to 1e-8 of the greatest entry, or of 1."""
    greatest = max(1.0, float(theirs.abs().max()))
    assert_close(ours, theirs, rtol=0, atol=1e-8 * greatest, check_dtype=False, msg=lambda text: f"{name}: {text}")


def gradients_at(method: Method, epoch: int = 0) -> dict[str, Tensor]:
    """Return the gradients of a first step, without an optimiser."""
    set_modes(method, method.stages()[0])
    method.train_step(batch_of(method, 0), step_of(method, epoch), [])
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def same_gradients(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two steps left the same gradients, to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def files_differing(
    name: str, cache: Path, folder: Path, every: int = 2, dataset: str = "tiny", epochs: int = 3, **params: Any
) -> list[str]:
    """Make a run whole, and another that stops after every few steps; return the files that they do not share."""
    spec = tiny_spec(name, dataset, params=params, recipe={"epochs": epochs})
    return stopped.differing_after_stops(spec, cache, folder, every)
