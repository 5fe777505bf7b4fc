"""What runs will take before any was made: seconds a sample, measured here on random inputs, hours, gigabytes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ..dataset import Dataset
from ..registry.index import Index
from ..storage.hashing import digest
from ..study.declared import method_facts
from ..study.recipe import Recipe
from ..study.run_spec import RunSpec

#: A forward pass alone costs about a third of a training step.
FORWARD = 1 / 3
BYTES = {"spectrogram": 2, "signal": 2, "image": 1, "flow": 1}


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
            found[m.name] = kind(recipe.shape_of(m), kind.Params(**choice.params))
    return found


def throughput(dataset: Dataset, recipe: Recipe, index: Index, device: Any, least: float = 3.0) -> dict[str, float]:
    """Return modality -> seconds that a training step of its encoder takes per sample, on random inputs.

    Their sum is what joint training takes.

    Args:
        least: seconds to measure, after one step to warm up; two steps at the least.
    """
    import torch

    from ..train.build import on_device
    from ..train.machine import set_up_torch

    set_up_torch(device, recipe.threads)
    batch, inputs = recipe.batch_size, {}
    encoders = encoders_of(dataset, recipe, index, "cpu")
    for m in dataset.modalities:
        shape, frames = recipe.shape_of(m), recipe.frames_of(m.kind)
        inputs[m.name] = torch.randn(batch, *([frames] if frames > 1 else []), *shape, device=device)
        on_device(encoders[m.name], device).train()
    spent = dict.fromkeys(inputs, 0.0)

    def step() -> None:
        for name, values in inputs.items():
            began = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                total = encoders[name](values).float().square().mean()
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


def gigabytes(dataset: Dataset) -> float:
    """Return about what a prepared cache takes."""
    each = sum(m.views * math.prod(m.shape) * BYTES.get(m.kind, 4) for m in dataset.modalities)
    return dataset.stored_rows() * each / 1e9


def built(run: RunSpec, dataset: Dataset, index: Index) -> Any:
    """Return the run's method with its heads; its encoders hold nothing."""
    kind: Any = index.load("method", run.config.method)
    recipe, counts = run.config.recipe, dataset.splits[run.config.split].counts
    encoders = encoders_of(dataset, recipe, index, "meta")
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
    method, total = built(run, dataset, index), 0.0
    for stage in method.stages():
        modules = [method] if stage.train is None else stage.train
        trained = {id(parameter) for module in modules for parameter in module.parameters()}
        step = 0.0
        for name, encoder in method.encoders.items():
            shown = stage.evaluates is None or any(report.endswith(f"/{name}") for report in stage.evaluates)
            learns = any(id(parameter) in trained for parameter in encoder.parameters())
            step += each[name] * (1.0 if learns else FORWARD * shown)
        evaluated = counts.get("val", 0) + counts.get("test", 0)
        total += stage.epochs * (counts["train"] * step + evaluated * forward)
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
