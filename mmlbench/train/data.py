"""Batches from a prepared cache: resident on the device, drawn from (seed, epoch, sample)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cache import Cache
from ..method import Batch
from .rng import generator

EVALUATION_BATCH = 512


class Views(dict[str, Tensor]):
    """The drawn view of each sample of a part, modality -> int64 (n,), and the epoch that they are of."""

    epoch: int = 0


@dataclass(frozen=True)
class Noise:
    """Additive Gaussian noise on one modality's standardised inputs; `std` in standard deviations of these.

    What is drawn depends on (dataset, part, first sample of the batch): for the fixed views it is the same for all
    seeds and methods, so that a seed never changes the test; in training it is new in each epoch.
    """

    modality: str
    std: float

    def add(self, inputs: dict[str, Tensor], *axes: str | int) -> None:
        """Add the noise to a batch's inputs (B, *shape), in place."""
        values = inputs[self.modality]
        drawn = torch.randn(values.shape, generator=generator(*axes, "noise", self.modality))
        values.add_(drawn.to(values.device), alpha=self.std)


def noise_of(recipe: Mapping[str, Any]) -> Noise | None:
    """Return the noise that a recipe asks for."""
    return Noise(recipe["noise_on"], recipe["noise_std"]) if recipe.get("noise_std") else None


@dataclass
class Resident:
    """One modality of a part, on the device.

    Attributes:
        stored: all views of all rows, (rows * count, *shape), in the stored type. first: each sample's view 0 (n,).
        count: views of a row. gain, bias: stored * gain + bias is standardised.
    """

    stored: Tensor
    first: Tensor
    count: int
    gain: float
    bias: float

    def take(self, index: Tensor, view: Tensor | None) -> Tensor:
        """Return standardised views (B, *shape); view 0 where none is given."""
        places = self.first[index]
        chosen = self.stored.index_select(0, places if view is None else places + view)
        return chosen.to(torch.float32).mul_(self.gain).add_(self.bias)


class PartData:
    """The samples of one part, ready on a device.

    Args:
        cache: an opened cache. split, part: which samples.
        device: where the batches shall be.
        axes: what the random axes are derived from: (dataset, seed).
        noise: on one modality's inputs, if any.
    """

    def __init__(
        self,
        cache: Cache,
        split: str,
        part: str,
        device: torch.device,
        axes: tuple[str, int],
        noise: Noise | None = None,
    ) -> None:
        facts, self.noise = cache.part(split, part), noise
        self.part, self.ids, self.groups, self.axes, self.device = part, facts.ids, facts.groups, axes, device
        self.label = torch.from_numpy(facts.label).to(device)
        self.modalities: dict[str, Resident] = {}
        for name in cache.modalities:
            used, rows = np.unique(facts.rows[name], return_inverse=True)
            stored = torch.from_numpy(np.ascontiguousarray(cache.array(name)[used])).to(device)
            count = stored.shape[1]
            places = torch.from_numpy(rows * count).to(device)
            self.modalities[name] = Resident(stored.flatten(0, 1), places, count, *cache.affine(split, name))
        first = facts.rows[cache.modalities[0]]
        extras = {name: cache.extra(name)[first] for name in cache.manifest["extras"]}
        self.extra = {name: torch.from_numpy(values).to(device) for name, values in extras.items()}

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, index: Tensor, views: dict[str, Tensor] | None = None) -> Batch:
        """Return the samples at some positions; `views` holds the drawn view of every sample of the part."""
        inputs = {
            name: resident.take(index, None if views is None else views[name][index])
            for name, resident in self.modalities.items()
        }
        if self.noise is not None and len(index):
            first = int(index[0])
            epoch = (self.axes[1], views.epoch) if isinstance(views, Views) else ()
            self.noise.add(inputs, self.axes[0], self.part, first, *epoch)
        extra = {name: values[index] for name, values in self.extra.items()}
        return Batch(index, inputs, self.label[index], extra)

    def views(self, epoch: int) -> dict[str, Tensor]:
        """Return the view that each sample shows in an epoch, modality -> int64 (n,)."""
        drawn = Views()
        drawn.epoch = epoch
        for name, resident in self.modalities.items():
            uniform = torch.rand(len(self), generator=generator(*self.axes, "views", name, epoch))
            drawn[name] = (uniform * resident.count).long().clamp_(max=resident.count - 1).to(self.device)
        return drawn

    def order(self, epoch: int) -> Tensor:
        """Return the epoch's order of the samples, int64 (n,)."""
        return torch.randperm(len(self), generator=generator(*self.axes, "order", epoch)).to(self.device)

    def in_order(self, epoch: int | None = None) -> Iterator[Batch]:
        """Yield all samples in the part's order: as fixed views, or as training sees them in an epoch."""
        views = None if epoch is None else self.views(epoch)
        for start in range(0, len(self), EVALUATION_BATCH):
            stop = min(start + EVALUATION_BATCH, len(self))
            yield self.batch(torch.arange(start, stop, device=self.device), views)


def cuts(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of the batches of an epoch; a last sample alone joins its neighbours.

    No sample is dropped; a batch of one would break batch normalisation.
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples], strict=True))
