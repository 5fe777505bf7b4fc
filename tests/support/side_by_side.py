"""A method's own steps beside a plain re-implementation of the official ones, over the same toy encoders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toy import BATCH, NAMES, SAMPLES, set_modes, sgd, take, toy_data, train

from mmlbench.method import Batch, Method, Stage, Step
from mmlbench.train.data import batch_bounds

#: What plain and own steps may differ by.
TOLERANCE = 1e-6
SIZE = 8


def optimizer_of(parameters: object) -> torch.optim.Optimizer:
    """Return SGD with all that moves weights: momentum and decay."""
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.01)  # type: ignore[arg-type]


def batches(count: int = 6, modalities: int = 2) -> list[Batch]:
    """Return batches of eight samples; every three of them show the toy data once."""
    data, found = toy_data(modalities), []
    for epoch in range(-(-count * SIZE // SAMPLES)):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
        found += [take(data, rows) for rows in order.split(SIZE)]
    return found[:count]


def own_steps(
    method: Method,
    given: Sequence[Batch],
    stage: int = 0,
    first_epoch: int = 0,
    hook: Callable[[Stage, int], None] = lambda stage, epoch: None,
) -> list[float]:
    """Train a stage of a method on batches, three to an epoch, `hook` called before each; return the losses."""
    chosen = method.stages()[stage]
    set_modes(method, chosen)
    optimizers, losses = method.optimizers(chosen, optimizer_of), []
    for k, batch in enumerate(given):
        epoch, index = first_epoch + k * SIZE // SAMPLES, k % (SAMPLES // SIZE)
        if index == 0:
            hook(chosen, epoch)
            set_modes(method, chosen, epoch)
        step = Step(chosen, epoch, index, torch.Generator().manual_seed(k), turn=chosen.turn_at(epoch))
        losses.append(float(method.train_step(batch, step, optimizers)[0].detach()))
    return losses


def encoders_of(method: Method) -> dict[str, nn.Module]:
    """Return copies of a method's encoders, in training mode."""
    return {m: copy.deepcopy(method.encoders[m]).train() for m in NAMES[: len(method.modalities)]}


def differing(method: Method, plain: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of weights and statistics that differ; `plain`: the method's attribute (dotted) -> module."""
    own, wrong = method.state_dict(), []
    for prefix, module in plain.items():
        for name, value in module.state_dict().items():
            wrong += [] if close(own[f"{prefix}.{name}"], value) else [f"{prefix}.{name}"]
    return wrong


def close(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors agree to the tolerance."""
    return bool(torch.allclose(one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE))


def check_same_training(method: Method, reference: Method, data: Batch) -> None:
    """Train both in the toy loop: the same losses and the same weights, to the bit."""
    assert train(method, data) == train(reference, data)
    own = method.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in reference.state_dict().items())


#: What an epoch shows: at each place the row, and 0, or one more than the place of the one modality that is shown.
Shown = list[tuple[int, int]]


def plain_epoch(
    encoders: Mapping[str, nn.Module], head: nn.Module, optimizer: torch.optim.Optimizer, shown: Shown
) -> list[float]:
    """Train two encoders under a head over both features on an epoch; what is left out is a feature of zeros."""
    losses = []
    for start, stop in batch_bounds(len(shown), BATCH):
        part = shown[start:stop]
        batch = take(toy_data(), torch.tensor([row for row, _ in part]))
        features = [encoder(batch.inputs[m]).clone() for m, encoder in encoders.items()]
        for place, (_, alone) in enumerate(part):
            if alone:
                features[2 - alone][place, :] = 0.0
        optimizer.zero_grad()
        loss = cross_entropy(head(torch.cat(features, 1)), batch.label)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def plain_order(epoch: int) -> Shown:
    """Return the order in which the toy loop shows an epoch, all of each sample."""
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
    return [(row, 0) for row in order.tolist()]


def toy_sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    """Return the toy loop's optimiser over some modules."""
    return sgd([p for module in modules for p in module.parameters()])
