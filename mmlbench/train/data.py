"""Batches from a prepared cache: resident on the device, drawn from (seed, epoch, sample)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..method import Batch
from ..modality import BUCKET, Augmentation, Modality
from ..prepare.cache import Cache
from ..study.recipe import Recipe
from .augmentation import Drawn, Pixels, draw, fixed_views
from .rng import generator
from .stream import Streamed, gather

#: Most samples that an evaluation forward takes, and most bytes of their inputs, see `evaluation_batch`.
EVALUATION_BATCH, EVALUATION_BYTES = 512, 2**27
#: Values that are scaled at once on a CPU: 1 MB.
PIECE = 2**18


class Views(dict[str, Tensor]):
    """The drawn views of each sample of a part, modality -> int64 (n,), or (n, T) for T frames, and their epoch.

    `drawn` holds the crops and flips, of modalities that have any; `on_host` views that were brought to the CPU.
    """

    epoch: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, Drawn] = {}
        self.on_host: dict[str, Tensor] = {}


@dataclass(frozen=True)
class Noise:
    """Noise on one modality's standardised inputs: additive Gaussian, `std` in standard deviations of these.

    A type may have noise of another kind (`ModalityType.add_noise`).

    What is drawn depends on (dataset, part, first sample of the batch): for the fixed views it is the same for all
    seeds and methods, so that a seed never changes the test; in training it is new in each epoch.
    """

    modality: str
    std: float

    def add(self, inputs: dict[str, Tensor], modality: Modality, *seed_key: str | int) -> None:
        """Put a batch's inputs (B, *shape) under noise, as their type has it; drawn on the CPU for any device."""
        rng = generator(*seed_key, "noise", self.modality)
        inputs[self.modality] = modality.type.add_noise(modality, inputs[self.modality], self.std, rng)


def noise_of(recipe: Recipe) -> Noise | None:
    """Return the noise that a recipe asks for."""
    return Noise(recipe.noise_on, recipe.noise_std) if recipe.noise_on else None


@dataclass
class Resident:
    """One modality of a part, on the device, or streamed to it.

    Attributes:
        stored: all views of all rows, (rows * count, *shape), in the stored type. view_shape: of one view, as stored.
        first: each sample's view 0 (n,). Of a streamed modality `first`, `fixed` and the drawn views lie on the CPU.
        count: views of a row. gain, bias: stored * gain + bias is standardised; of each channel, as tensors. valid: a
        sample's own views, on the CPU (n,). fixed: the views of evaluation (n, T). pixels: how pictures are shown,
        where the recipe says. modality: what is declared of it. lengths: steps of each view that are its own,
        (rows * count,), beside `first`; None where the type has no lengths. longest: of any view.
    """

    stored: Tensor | Streamed
    view_shape: tuple[int, ...]
    first: Tensor
    count: int
    gain: float | Tensor
    bias: float | Tensor
    valid: Tensor
    augmentation: Augmentation
    fixed: Tensor
    modality: Modality
    pixels: Pixels | None = None
    lengths: Tensor | None = None
    longest: int = 0

    @property
    def shown(self) -> int:
        """Values that a sample's input has, of all its frames; of the longest one where samples differ in length."""
        if self.lengths is not None:
            return padded_length(self.longest) * math.prod(self.view_shape[1:])
        shape = self.view_shape if self.pixels is None else (self.view_shape[0], *self.pixels.out)
        return self.augmentation.frames * math.prod(shape)

    def places(self, index: Tensor, views: Tensor | None) -> Tensor:
        """Return where the views of some samples lie in `stored`, (B * T,); `views` is of the whole part."""
        index = index.to(self.first.device)
        view = (self.fixed if views is None else views)[index]
        return (self.first[index][:, None] + (view[:, None] if view.dim() == 1 else view)).flatten()

    def take(
        self, index: Tensor, views: Tensor | None, drawn: Drawn | None = None, chosen: Tensor | None = None
    ) -> Tensor:
        """Return standardised views (B, *shape), or (B, T, *shape) of T frames; by default the fixed ones.

        Args:
            views: what every sample of the part shows. chosen: the stored views, where they were gathered ahead.
        """
        chosen = self.stored.index_select(0, self.places(index, views)) if chosen is None else chosen
        frames = (len(index), self.augmentation.frames)
        if self.modality.type.ids:
            return chosen.to(torch.int64)
        if self.pixels is None:
            values = chosen.to(torch.float32)
        else:
            boxes = None if drawn is None or drawn.boxes is None else drawn.boxes[index]
            flips = None if drawn is None or drawn.flips is None else drawn.flips[index]
            values = self.pixels.show(chosen.unflatten(0, frames), boxes, flips).flatten(0, 1)
        scale_(values, self.gain, self.bias)
        return values if self.augmentation.frames == 1 else values.unflatten(0, frames)


def padded_length(longest: int) -> int:
    """Return to how many steps a batch is padded whose longest sample has so many."""
    return -(-longest // BUCKET) * BUCKET


def padded(values: Tensor, longest: int) -> Tensor:
    """Return inputs (B, L, ...) cut or padded to the steps of a batch whose longest sample has `longest`."""
    size = padded_length(longest)
    values = values[:, :size]
    if values.shape[1] == size:
        return values
    return torch.cat([values, values.new_zeros(len(values), size - values.shape[1], *values.shape[2:])], 1)


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Return inputs (B, L, ...) with 0 in the steps beyond each length (B,)."""
    beyond = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
    return values.masked_fill(beyond.view(*beyond.shape, *[1] * (values.dim() - 2)), 0)


def scale_(values: Tensor, gain: float | Tensor, bias: float | Tensor) -> None:
    """Replace values by values * gain + bias; on the CPU in pieces that stay in its cache between the two."""
    if isinstance(gain, Tensor):
        values.mul_(gain).add_(bias)
        return
    for piece in values.view(-1).split(PIECE) if values.device.type == "cpu" else (values,):
        piece.mul_(gain).add_(bias)


def evaluation_batch(values: int) -> int:
    """Return how many samples an evaluation forward takes: 512, halved until their inputs take 128 MiB as float32.

    It follows from the shapes alone, never from the memory of a machine: the last bits of logits depend on it.

    Args:
        values: of one sample's inputs, all modalities and frames together.
    """
    count = EVALUATION_BATCH
    while count > 1 and 4 * values * count > EVALUATION_BYTES:
        count //= 2
    return count


class PartData:
    """The samples of one part, ready on a device.

    Args:
        cache: an opened cache. split, part: which samples.
        device: where the batches shall be.
        seed_key: what the random axes are derived from: (dataset, seed).
        noise: on one modality's inputs, if any.
        augmentations: modality -> how its views are shown (see `augmentations_of`).
        stream: leave the data in the memory map and read it ahead; the batches are the same.
        balanced: draw the samples of an epoch with replacement, such that each class comes up alike.

    Attributes:
        target: of each sample as it is stored, (n, ...). label: the same as a tensor on the device.
        evaluation_batch: samples of an evaluation forward.
    """

    def __init__(
        self,
        cache: Cache,
        split: str,
        part: str,
        device: torch.device,
        seed_key: tuple[str, int],
        noise: Noise | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        stream: bool = False,
        balanced: bool = False,
    ) -> None:
        facts, self.noise, self.stream = cache.part(split, part), noise, stream
        self.part, self.ids, self.groups, self.seed_key, self.device = part, facts.ids, facts.groups, seed_key, device
        self.target, self.label = facts.label, cache.task.tensor(facts.label).to(device)
        self.chances = torch.from_numpy(cache.task.sampling_weights(facts.label)) if balanced else None
        self.modalities: dict[str, Resident] = {}
        self._host: dict[str, list[Tensor]] = {}  # of types with lengths: what tells them, on the CPU
        for name in cache.modalities:
            self.modalities[name] = self._modality(
                cache, split, name, facts.rows[name], (augmentations or {}).get(name)
            )
        self._host_is_asked = any(resident.lengths is not None for resident in self.modalities.values())
        self.evaluation_batch = evaluation_batch(sum(resident.shown for resident in self.modalities.values()))
        first = facts.rows[cache.modalities[0]]
        extras = {name: cache.extra(name)[first] for name in cache.manifest["extras"]}
        self.extra = {name: torch.from_numpy(values).to(device) for name, values in extras.items()}

    def _modality(
        self, cache: Cache, split: str, name: str, rows: np.ndarray, augmentation: Augmentation | None
    ) -> Resident:
        """Return a modality's views with all that is needed to show them."""
        augmentation, array = augmentation or Augmentation(), cache.array(name)
        count, own, facts = array.shape[1], cache.valid(name), cache.manifest["arrays"][name]
        valid = torch.from_numpy(np.full(len(rows), count) if own is None else own[rows].astype(np.int64))
        where = torch.device("cpu") if self.stream else self.device
        lengths, modality = cache.lengths(name), cache.modality(name)
        stored: Tensor | Streamed
        if self.stream:
            stored = Streamed(array, self.device, augmentation.plain and not modality.type.ids)
        else:
            used, rows = np.unique(rows, return_inverse=True)
            lengths = None if lengths is None else lengths[used]
            stored = torch.from_numpy(np.ascontiguousarray(array[used])).to(self.device).flatten(0, 1)
        first = torch.from_numpy(rows * count).to(where)
        fixed = fixed_views(valid, augmentation).to(where)
        pixels = (
            None if augmentation.plain else Pixels(augmentation, array.shape[2:], facts["scale"], facts["offset"])
        )
        shape, (gain, bias) = tuple(array.shape[2:]), (self._constant(one) for one in cache.affine(split, name))
        steps = None if lengths is None else torch.from_numpy(lengths.astype(np.int64)).flatten().to(where)
        longest = cache.longest.get(name, 0)
        return Resident(
            stored, shape, first, count, gain, bias, valid, augmentation, fixed, modality, pixels, steps, longest
        )

    def _constant(self, value: float | np.ndarray) -> float | Tensor:
        """Return a constant of the standardisation; one for each channel becomes a tensor on the device."""
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value.astype(np.float32)).to(self.device)
        return value

    def __len__(self) -> int:
        return len(self.label)

    def batch(
        self,
        index: Tensor,
        views: dict[str, Tensor] | None = None,
        chosen: dict[str, Tensor] | None = None,
        on_host: Tensor | None = None,
    ) -> Batch:
        """Return the samples at some positions.

        Args:
            views: the drawn views of every sample of the part. chosen: the stored views, where they were gathered.
            on_host: `index` on the CPU, where the caller has it: to read it from a GPU takes until the GPU's work is
                done.
        """
        inputs = {
            name: resident.take(
                index,
                None if views is None else views[name],
                views.drawn.get(name) if isinstance(views, Views) else None,
                None if chosen is None else chosen[name],
            )
            for name, resident in self.modalities.items()
        }
        lengths = {}
        for name, resident in self.modalities.items():
            if resident.lengths is not None:
                on_host = index.cpu() if on_host is None else on_host
                of_host = self._lengths(name, on_host, views)
                lengths[name] = of_host.to(self.device)
                inputs[name] = padded(inputs[name], int(of_host.max()) if len(of_host) else 1)
        if self.noise is not None and len(index):
            first = int(index[0]) if on_host is None else int(on_host.numpy()[0])
            epoch = (self.seed_key[1], views.epoch) if isinstance(views, Views) else ()
            declared = self.modalities[self.noise.modality].modality
            self.noise.add(inputs, declared, self.seed_key[0], self.part, first, *epoch)
        inputs |= {name: without_padding(inputs[name], count) for name, count in lengths.items()}
        extra = {name: values[index] for name, values in self.extra.items()}
        return Batch(index, inputs, self.label[index], extra, lengths)

    def _lengths(self, name: str, on_host: Tensor, views: dict[str, Tensor] | None) -> Tensor:
        """Return the lengths of what some samples show, int64 (B,) on the CPU."""
        resident = self.modalities[name]
        assert resident.lengths is not None
        if name not in self._host:
            fixed = resident.fixed[:, 0]
            self._host[name] = [one.cpu() for one in (resident.first, fixed, resident.lengths)]
        first, fixed, lengths = self._host[name]
        shown = fixed if views is None else self._drawn_on_host(name, views)
        return lengths[first[on_host] + shown[on_host]]

    def _drawn_on_host(self, name: str, views: dict[str, Tensor]) -> Tensor:
        """Return the drawn views of every sample on the CPU; brought there once an epoch."""
        if not isinstance(views, Views):
            return views[name].cpu()
        if name not in views.on_host:
            views.on_host[name] = views[name].cpu()
        return views.on_host[name]

    def views(self, epoch: int) -> dict[str, Tensor]:
        """Return the views that each sample shows in an epoch, modality -> int64 (n,), with their crops and flips."""
        views = Views()
        views.epoch = epoch
        for name, resident in self.modalities.items():
            size = None if resident.pixels is None else resident.pixels.shape[1:]
            drawn = draw(resident.valid, size, resident.augmentation, self.seed_key, name, epoch)  # type: ignore[arg-type]
            shown = drawn.views[:, 0] if resident.augmentation.frames == 1 else drawn.views
            views[name] = shown.to(resident.first.device)
            if drawn.boxes is not None or drawn.flips is not None:
                on = [None if part is None else part.to(self.device) for part in (drawn.boxes, drawn.flips)]
                views.drawn[name] = Drawn(drawn.views, *on)
        return views

    def order(self, epoch: int) -> Tensor:
        """Return the epoch's samples in their order, int64 (n,): each once, or drawn by their chances."""
        rng = generator(*self.seed_key, "order", epoch)
        if self.chances is None:
            return torch.randperm(len(self), generator=rng).to(self.device)
        return torch.multinomial(self.chances, len(self), replacement=True, generator=rng).to(self.device)

    def batches(self, pieces: Iterable[Tensor], views: dict[str, Tensor] | None = None) -> Iterator[Batch]:
        """Yield the batches of some positions, in order; streamed data is read ahead."""
        pieces = list(pieces)
        if self.noise is None and not self.stream and not self._host_is_asked:
            yield from (self.batch(index, views) for index in pieces)
            return
        on_host = _on_host(pieces)
        if not self.stream:
            yield from (self.batch(index, views, None, host) for index, host in zip(pieces, on_host, strict=True))
            return
        stored = {m: r.stored for m, r in self.modalities.items() if isinstance(r.stored, Streamed)}
        wanted = (
            {m: r.places(index, None if views is None else views[m]) for m, r in self.modalities.items()}
            for index in on_host
        )
        gathered = gather(stored, wanted, self.device)
        for index, host, chosen in zip(pieces, on_host, gathered, strict=True):
            yield self.batch(index, views, chosen, host)

    def in_order(self, epoch: int | None = None) -> Iterator[Batch]:
        """Yield all samples in the part's order: as fixed views, or as training sees them in an epoch."""
        views = None if epoch is None else self.views(epoch)
        yield from self.batches(torch.arange(len(self), device=self.device).split(self.evaluation_batch), views)


def _on_host(pieces: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return positions on the CPU, brought there in one transfer."""
    return torch.cat(tuple(pieces)).cpu().split([len(index) for index in pieces]) if pieces else ()


def batch_bounds(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of the batches of an epoch; a last sample alone joins its neighbours.

    No sample is dropped; a batch of one would break batch normalisation.
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples], strict=True))
