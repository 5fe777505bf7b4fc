"""What runs will take before any was made: seconds a sample, measured here on random inputs, hours, gigabytes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dataset import Dataset
from ..encoder import make_encoder
from ..modality import Modality
from ..registry.index import Index
from ..storage.hashing import digest
from ..study.declared import method_facts
from ..study.recipe import BF16, FP32, Recipe
from ..study.run_spec import RunSpec

#: A forward pass alone costs about a third of a training step.
FORWARD = 1 / 3


def dataset_of(run: RunSpec, index: Index) -> Dataset:
    """Return the run's dataset with its parameters."""
    kind: Any = index.load("dataset", run.config.dataset)
    dataset: Dataset = kind(kind.Params(**run.config.dataset_params))
    return dataset


def encoders_of(dataset: Dataset, recipe: Recipe, index: Index, device: Any) -> dict[str, Any]:
    """Return modality -> encoder of a recipe on a device; on 'meta' it takes neither time nor memory."""
    import torch

    found = {}
    for m in dataset.modalities:
        choice = recipe.encoder[m.name]
        kind: Any = index.load("encoder", choice.name)
        with torch.device(device):
            found[m.name] = make_encoder(kind, m, recipe.shape_of(m), kind.Params(**choice.params))
        found[m.name].hold(choice.freeze)
    return found


def example(modality: Modality, recipe: Recipe, count: int, device: Any) -> list[Any]:
    """Return what an encoder is called with: random inputs of some samples, and a mask where they have lengths."""
    import torch

    shape, frames = recipe.shape_of(modality), recipe.frames_of(modality)
    inputs = modality.type.random_inputs(modality, (count, *([frames] if frames > 1 else []), *shape), device)
    mask = [torch.ones(count, shape[0], dtype=torch.bool, device=device)] if modality.type.has_length else []
    return [inputs, *mask]


def throughput(dataset: Dataset, recipe: Recipe, index: Index, device: Any, least: float = 3.0) -> dict[str, float]:
    """Return modality -> seconds that a training step of its encoder takes per sample, on random inputs.

    Their sum is what joint training takes.

    Args:
        least: seconds to measure, after one step to warm up; two steps at the least.
    """
    import torch

    from ..train.build import on_device
    from ..train.machine import set_up_torch

    # Where the runs will be made there may be a GPU with tf32; what is measured here says nothing of it.
    set_up_torch(device, recipe.threads, precision=recipe.precision if device.type == "cuda" else FP32)
    batch, inputs = recipe.batch_size, {}
    encoders = encoders_of(dataset, recipe, index, "cpu")
    for m in dataset.modalities:
        inputs[m.name] = example(m, recipe, batch, device)
        on_device(encoders[m.name], device).train()
    spent = dict.fromkeys(inputs, 0.0)

    def step() -> None:
        for name, values in inputs.items():
            began = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == BF16):
                total = encoders[name](*values).float().square().mean()
            if total.requires_grad:  # not where all is frozen
                total.backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent[name] += time.monotonic() - began

    step()
    spent.update(dict.fromkeys(spent, 0.0))
    steps = 0
    while steps < 2 or sum(spent.values()) < least:
        step()
        steps += 1
    return {name: seconds / steps / batch for name, seconds in spent.items()}


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training step of all encoders together takes, beside the libraries and the data.

    Attributes:
        activations: what a batch's forward pass keeps for the backward pass, by what autograd saves (each storage
            once, parameters left out); counted on two samples of zeros and on four, from which the batch follows.
        state: weights, their gradients, and what the optimiser keeps of each.
    """

    activations: int
    state: int


#: Numbers that an optimiser keeps for each weight.
KEPT = {"sgd": 1, "adam": 2, "adamw": 2}


def kept_bytes(encoder: Any, inputs: Sequence[Any], recipe: Recipe) -> int:
    """Return the bytes that autograd saves of a forward pass over some inputs and, where there is one, their mask."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    own = {one.untyped_storage().data_ptr() for one in (*encoder.parameters(), *encoder.buffers())}
    kept: dict[int, int] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor  # which keeps it alive, so that no other takes its place

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == BF16)
    with saved_tensors_hooks(save, lambda tensor: tensor), autocast:
        found = encoder(*inputs)
    total = sum(kept.values())
    del found
    return total


def step_memory(dataset: Dataset, recipe: Recipe, index: Index) -> StepMemory:
    """Return what a training step of a recipe takes, heads and whatever a method does beside left out."""
    activations = state = 0
    encoders = encoders_of(dataset, recipe, index, "cpu")
    for m in dataset.modalities:
        encoder = encoders[m.name].train()
        two, four = (kept_bytes(encoder, example(m, recipe, samples, "cpu"), recipe) for samples in (2, 4))
        activations += two + (four - two) * (recipe.batch_size - 2) // 2
        for parameter in encoder.parameters():
            moments = KEPT[recipe.optimizer] * (recipe.optimizer != "sgd" or recipe.momentum > 0)
            state += parameter.nbytes * (1 + (1 + moments) * parameter.requires_grad)
    return StepMemory(activations, state)


def gigabytes(dataset: Dataset) -> float:
    """Return about what a prepared cache takes."""
    each = sum(m.views * math.prod(m.shape) * m.type.value_bytes for m in dataset.modalities)
    return dataset.stored_rows() * each / 1e9


def built(run: RunSpec, dataset: Dataset, index: Index) -> Any:
    """Return the run's method with its heads; its encoders hold nothing, or are real where it looks into them."""
    kind: Any = index.load("method", run.config.method)
    recipe, counts = run.config.recipe, dataset.splits[run.config.split].counts
    # the widths of blocks are found by a pass, which takes weights
    encoders = encoders_of(dataset, recipe, index, "cpu" if kind.needs_blocks else "meta")
    params, task = kind.Params(**run.config.params), dataset.asks()
    method = kind(params, encoders, task.outputs, recipe.epochs, counts.get("train", 0), task)
    method.build()
    return method


def seconds_of(run: RunSpec, dataset: Dataset, each: Mapping[str, float], index: Index) -> float:
    """Return the seconds of one run: the epochs of all its stages, each evaluated.

    An encoder that a stage trains costs a whole step; one that it holds costs a forward pass, and nothing where the
    stage reports other modalities alone.

    Args:
        each: modality -> seconds of a training step per sample, see `throughput`.
    """
    counts = dataset.splits[run.config.split].counts
    forward = FORWARD * sum(each.values())
    if not method_facts(index.find("method", run.config.method)).trains_encoders:
        return forward * sum(counts.values())
    from ..method import parameters_of

    method, total = built(run, dataset, index), 0.0
    for stage in method.stages():
        evaluated, steps = counts.get("val", 0) + counts.get("test", 0), 0.0
        for epoch in range(stage.epochs) if stage.turns else (0,):
            parts = stage.trained(epoch)
            trained = set(map(id, parameters_of([method] if parts is None else parts)))
            for name, encoder in method.encoders.items():
                shown = stage.evaluates is None or any(report.endswith(f"/{name}") for report in stage.evaluates)
                learns = any(id(parameter) in trained for parameter in encoder.parameters())
                steps += each[name] * (1.0 if learns else FORWARD * shown)
        steps *= 1 if stage.turns else stage.epochs
        total += counts["train"] * steps + stage.epochs * evaluated * forward
    return total


def weights_gigabytes(runs: list[RunSpec], index: Index) -> float:
    """Return about what the weights take that runs leave in the results folder."""
    sizes: dict[str, int] = {}
    for run in runs:
        key = digest({key: value for key, value in run.config.plain().items() if key not in ("seed", "split")})
        if key not in sizes:
            method = built(run, dataset_of(run, index), index)
            values = sum(value.numel() for value in method.state_dict().values())
            sizes[key] = 4 * values * len(method.keeps)
        sizes[""] = sizes.get("", 0) + sizes[key]
    return sizes.get("", 0) / 1e9
