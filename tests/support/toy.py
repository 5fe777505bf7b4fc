"""A small world for methods: toy encoders, one toy data set in memory, and a loop without the engine's trimmings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmlbench import plugins
from mmlbench.encoder import Encoder
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.method import Batch, EpochContext, Features, Method, Stage, Step
from mmlbench.train.data import batch_bounds
from mmlbench.train.modes import set_modes
from mmlbench.train.sampling import masked

CLASSES, SAMPLES, BATCH = 3, 24, 8
NAMES = ("audio", "visual", "flow")
PLUGINS = Path(__file__).parents[1] / "plugins"


def plugin(module: str, name: str) -> type[Method]:
    """Import a class of `tests/plugins/` as the engine would, without leaving the folder on the plug-in path."""
    plugins.__path__.append(str(PLUGINS))
    try:
        return getattr(importlib.import_module(f"mmlbench.plugins.{module}"), name)
    finally:
        plugins.__path__.remove(str(PLUGINS))


class NoSync(TorchDispatchMode):
    """Raises where an operation needs a value, or a size that depends on values, on the host."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.removeprefix("aten::").split(".")[0] in self.FORBIDDEN:
            raise AssertionError(f"host synchronisation by {func}")
        indices = args[1] if func._schema.name == "aten::index" else ()
        if any(index is not None and index.dtype == torch.bool for index in indices):
            raise AssertionError("host synchronisation by indexing with a mask")
        return func(*args, **(kwargs or {}))


def toy_data(modalities: int = 2, seed: int = 0) -> Batch:
    """Return the whole toy train part as one batch."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(SAMPLES) % CLASSES
    inputs = {m: torch.randn(SAMPLES, 1, 8, 8, generator=rng) + label.view(-1, 1, 1, 1) for m in NAMES[:modalities]}
    return Batch(torch.arange(SAMPLES), inputs, label)


def take(data: Batch, index: Tensor) -> Batch:
    """Return some samples of a batch."""
    return Batch(data.index[index], {m: x[index] for m, x in data.inputs.items()}, data.label[index])


def make(
    kind: type[Method], modalities: int = 2, epochs: int = 4, encoder: type[Encoder] = SmallCNN, **params: Any
) -> Method:
    """Return a built method over toy encoders of fixed initial weights."""
    torch.manual_seed(1)
    shape = (1, 8, 8)
    chosen = encoder.Params(**({"width": 2} if encoder is SmallCNN else {}))
    encoders = {m: encoder(shape, chosen) for m in NAMES[:modalities]}
    method = kind(kind.Params(**params), encoders, CLASSES, epochs, SAMPLES)
    torch.manual_seed(2)
    method.build()
    return method


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Return the toy recipe's optimiser."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def context_of(method: Method, stage: Stage, epoch: int, data: Batch) -> EpochContext:
    """Return the epoch hooks' context over the toy data."""

    @torch.no_grad()
    def features(part: str = "train", augment: bool = False) -> Features:
        method.eval()
        found = method.encode(data)
        set_modes(method, stage, epoch)
        return found, data.label, data.index

    def batches(part: str = "train", augment: bool = False) -> Iterator[Batch]:
        return iter([data])

    return EpochContext(stage, epoch, torch.Generator().manual_seed(90 + epoch), features, batches)


def train(
    method: Method, data: Batch, seed: int = 0, until: Callable[[Stage, int], bool] = lambda stage, epoch: False
) -> list[float]:
    """Train through all stages; no step may synchronise with the host. Return the losses."""
    losses = []
    for stage in method.stages():
        set_modes(method, stage)
        optimizers = method.optimizers(stage, sgd)
        for epoch in range(stage.epochs):
            if until(stage, epoch):
                return losses
            context = context_of(method, stage, epoch, data)
            (stage.before_epoch or method.before_epoch)(context)
            chosen = method.sample(context)
            set_modes(method, stage, epoch)
            turn = stage.turn_at(epoch)
            order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
            order = order if chosen is None else chosen.order
            for index, (start, stop) in enumerate(batch_bounds(len(order), BATCH)):
                rng = torch.Generator().manual_seed(1000 * seed + 10 * epoch + index)
                batch = take(data, order[start:stop])
                batch = batch if chosen is None else masked(batch, chosen, start, stop)
                with NoSync():
                    step = Step(stage, epoch, index, rng, turn=turn)
                    outcome = method.train_step(batch, step, optimizers)
                losses.append(outcome[0].detach())
            method.after_epoch(context)
    return [loss.item() for loss in losses]


def gradients(method: Method, seed: int = 0, epoch: int = 0) -> dict[str, Tensor]:
    """Return what a step of the first stage leaves in `grad`, the optimiser set aside."""
    stage = method.stages()[0]
    batch = take(toy_data(len(method.modalities)), torch.arange(BATCH))
    method.train()
    method.train_step(batch, Step(stage, epoch, 0, torch.Generator().manual_seed(seed)), [])
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def alone_gradients(method: Method) -> dict[str, Tensor]:
    """Return the gradients of unimodal training, all stages, from the own heads of another method."""
    alone = make(importlib.import_module("mmlbench.methods.unimodal").Unimodal, len(method.modalities))
    alone.own.load_state_dict(method.own.state_dict())
    alone.train()
    for stage in alone.stages():
        stage.loss(take(toy_data(len(method.modalities)), torch.arange(BATCH)))[0].backward()
    return {name: p.grad.clone() for name, p in alone.named_parameters()}


def scheduled(method: Method) -> list[str]:
    """Return the mechanisms that must act."""
    return [mechanism.name for mechanism in method.mechanisms() if not mechanism.off]


def mechanism_counts(method: Method) -> dict[str, float]:
    """Return what the mechanisms did."""
    return {name: float(amount) for name, amount in method.mechanism_counts.items()}
