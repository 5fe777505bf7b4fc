"""What runs will take before any was made: samples a second measured here on random inputs, hours, gigabytes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ..dataset import Dataset
from ..index import Index
from ..plan import RunSpec

#: A forward pass alone costs about a third of a training step.
FORWARD = 1 / 3
BYTES = {"spectrogram": 2, "signal": 2, "image": 1, "flow": 1}


def dataset_of(run: RunSpec, index: Index) -> Dataset:
    """Return the run's dataset with its parameters."""
    kind: Any = index.load("dataset", run.config["dataset"])
    dataset: Dataset = kind(kind.Params(**run.config["dataset_params"]))
    return dataset


def _frames(kind: str, recipe: Mapping[str, Any]) -> int:
    return int(recipe.get({"image": "frames", "flow": "flow_frames"}.get(kind, ""), 1))


def _shape(shape: tuple[int, ...], kind: str, recipe: Mapping[str, Any]) -> tuple[int, ...]:
    side = recipe.get("crop_size", 0)
    return (shape[0], side, side) if side and kind in ("image", "flow") else shape


def throughput(dataset: Dataset, recipe: Mapping[str, Any], index: Index, device: Any, least: float = 3.0) -> float:
    """Return training samples a second of joint training on random inputs of a recipe's shapes.

    Args:
        least: seconds to measure, after one step to warm up; two steps at the least.
    """
    import torch

    from ..train.build import on_device
    from ..train.machine import set_up_torch

    set_up_torch(device, recipe["threads"])
    batch, encoders, inputs = recipe["batch_size"], torch.nn.ModuleDict(), {}
    for m in dataset.modalities:
        choice = recipe["encoder"][m.name]
        kind: Any = index.load("encoder", choice["name"])
        shape, frames = _shape(m.shape, m.kind, recipe), _frames(m.kind, recipe)
        encoders[m.name] = kind(shape, kind.Params(**choice["params"]))
        inputs[m.name] = torch.randn(batch, *([frames] if frames > 1 else []), *shape, device=device)
    on_device(encoders, device).train()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe["precision"] == "bfloat16"):
            total = sum(encoders[name](values).float().square().mean() for name, values in inputs.items())
        total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    began, steps = time.monotonic(), 0
    while steps < 2 or time.monotonic() - began < least:
        step()
        steps += 1
    return batch * steps / (time.monotonic() - began)


def gigabytes(dataset: Dataset, split: str) -> float:
    """Return about what a prepared cache takes."""
    rows = sum(dataset.splits[split].counts.values())
    return sum(rows * m.views * math.prod(m.shape) * BYTES.get(m.kind, 4) for m in dataset.modalities) / 1e9


def seconds_of(run: RunSpec, dataset: Dataset, rate: float, index: Index) -> float:
    """Return the seconds of one run at `rate` samples a second: its epochs of training, each evaluated."""
    counts, config = dataset.splits[run.config["split"]].counts, run.config
    if not index.find("method", config["method"]).facts["trains_encoders"]:
        return FORWARD * sum(counts.values()) / rate
    evaluated = FORWARD * (counts.get("val", 0) + counts.get("test", 0))
    seconds: float = config["recipe"]["epochs"] * (counts["train"] + evaluated) / rate
    return seconds
