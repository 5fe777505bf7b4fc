"""How a clip is shown: which of its frames, cropped and flipped how; drawn for a whole part at once, on any device.

What training sees of a sample in an epoch follows from (dataset, seed, epoch, sample) alone: it is the same for every
method, every batch size and every device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from ..errors import ConfigError
from ..modality import Augmentation, Modality
from ..prepare.cache import Cache
from ..study.recipe import Recipe
from .rng import generator

#: torchvision's RandomResizedCrop: share of the area, aspect ratio, tries before the centre is taken.
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


@dataclass
class Drawn:
    """What one modality shows of every sample of a part.

    Attributes:
        views: places of the frames, int64 (n, T). boxes: int64 (n, T or 1, 4): top, left, height, width in stored
            pixels; None: the whole. flips: bool (n, T or 1).
    """

    views: Tensor
    boxes: Tensor | None = None
    flips: Tensor | None = None


def augmentations_of(recipe: Recipe, cache: Cache) -> dict[str, Augmentation]:
    """Return modality -> how a recipe shows it.

    Raises:
        ConfigError: more frames than are kept, or a crop larger than the frames.
    """
    modalities = [cache.modality(name) for name in cache.modalities]
    found = {}
    for modality in modalities:
        augmentation = modality.type.augmentation(modality, recipe, modalities)
        _check(augmentation, modality, cache.manifest["dataset"])
        found[modality.name] = augmentation
    return found


def _check(augmentation: Augmentation, modality: Modality, dataset: str) -> None:
    where, fix = f"{dataset}: {modality.name}", "Prepare it with more, or set less"
    if augmentation.frames > modality.views:
        raise ConfigError(f"{where} keeps {modality.views} frames, the recipe asks for {augmentation.frames}", fix)
    if augmentation.crop == "random" and augmentation.crop_size > min(modality.shape[1:]):
        what = f"{where} is {list(modality.shape[1:])} pixels, the recipe crops {augmentation.crop_size}"
        raise ConfigError(what, fix)


def fixed_picks(count: int, frames: int, pick: str) -> list[int]:
    """Return which of `count` frames are shown where nothing is drawn: always in evaluation.

    A clip with fewer frames than are asked for shows some again. `random` is evaluated as `uniform`, or as view 0
    where one frame is asked for. `seed999` is DI-MML's: `np.random.seed(999); choice(count, frames, replace=False)`.
    """
    if count < frames or pick == "first" or (pick == "random" and frames == 1):
        return [k % count for k in range(frames)]
    if pick == "seed999":
        return sorted(np.random.RandomState(999).choice(count, frames, replace=False).tolist())
    return [(2 * k + 1) * count // (2 * frames) for k in range(frames)]


def fixed_views(valid: Tensor, augmentation: Augmentation) -> Tensor:
    """Return the views shown of rows with `valid` frames each, int64 (n, T)."""
    most = int(valid.max()) if len(valid) else 0  # a part may be empty
    table = torch.tensor([fixed_picks(max(1, n), augmentation.frames, augmentation.pick) for n in range(most + 1)])
    return table.to(valid.device)[valid]


def random_views(valid: Tensor, augmentation: Augmentation, rng: torch.Generator) -> Tensor:
    """Return views drawn without replacement, in their order, int64 (n, T); `valid` and `rng` are on the CPU."""
    if augmentation.frames == 1:
        uniform = torch.rand(len(valid), generator=rng)
        return torch.minimum((uniform * valid).long(), valid - 1)[:, None]
    most = max(int(valid.max()), augmentation.frames)
    keys = torch.rand(len(valid), most, generator=rng)
    beyond = torch.arange(most) >= valid[:, None]
    order = (keys + 2 * beyond).argsort(1)[:, : augmentation.frames]
    return (order % valid[:, None]).sort(1).values


def _root(values: Tensor) -> Tensor:
    """Return square roots that are the same on every CPU; torch takes MKL's, which are not."""
    return torch.from_numpy(np.sqrt(values.numpy()))


def random_boxes(
    shape: tuple[int, int], size: tuple[int, int], augmentation: Augmentation, rng: torch.Generator
) -> Tensor:
    """Return crop windows in whole pixels, int64 (n, T, 4).

    Args:
        shape: (n, T). size: (height, width) of the stored frames. augmentation: which crop. rng: on the CPU.
    """
    if augmentation.crop == "random":
        sides = torch.full((*shape, 2), augmentation.crop_size)
    else:
        area = torch.empty(*shape, TRIES).uniform_(*AREA, generator=rng)
        ratio = torch.empty(*shape, TRIES).uniform_(*np.log(RATIO).tolist(), generator=rng).exp()
        height, width = _root(area / ratio * augmentation.aspect), _root(area * ratio / augmentation.aspect)
        fits = (width <= 1) & (height <= 1)
        first = fits.int().argmax(-1, keepdim=True)
        drawn = torch.cat([height.gather(-1, first), width.gather(-1, first)], -1)
        middle = torch.tensor([min(1.0, augmentation.aspect / RATIO[0]), min(1.0, RATIO[1] / augmentation.aspect)])
        shares = torch.where(fits.any(-1, keepdim=True), drawn, middle)
        sides = (shares * torch.tensor(size)).round().long().clamp_(min=1)
    room = torch.tensor(size) - sides + 1
    corner = (torch.rand(*shape, 2, generator=rng) * room).long().minimum(room - 1)
    return torch.cat([corner, sides], -1)


def middle_box(size: tuple[int, int], augmentation: Augmentation) -> Tensor | None:
    """Return the window of evaluation, (4,), or None for the whole frame."""
    if augmentation.crop != "random":
        return None
    return torch.tensor(
        [*((side - augmentation.crop_size) // 2 for side in size), augmentation.crop_size, augmentation.crop_size]
    )


def draw(
    valid: Tensor,
    size: tuple[int, int] | None,
    augmentation: Augmentation,
    seed_key: tuple[str, int],
    name: str,
    epoch: int,
) -> Drawn:
    """Return what training sees of every sample in an epoch, on the CPU.

    Args:
        valid: frames that each sample has, int64 (n,). size: (height, width) where the modality is a picture.
        seed_key: (dataset, seed). name: of the modality.
    """
    n = len(valid)
    rng = generator(*seed_key, "views", name, epoch)
    views = (
        random_views(valid, augmentation, rng) if augmentation.pick == "random" else fixed_views(valid, augmentation)
    )
    drawn = Drawn(views)
    frames = 1 if augmentation.together else augmentation.frames
    if size is not None and augmentation.crop != "none":
        drawn.boxes = random_boxes(
            (n, frames), size, augmentation, generator(*seed_key, "crops", augmentation.key, epoch)
        )
    if augmentation.flip:
        drawn.flips = (
            torch.rand(n, frames, generator=generator(*seed_key, "flips", augmentation.key, epoch))
            < augmentation.flip
        )
    return drawn


def mirror(pictures: Tensor, flips: Tensor | None) -> Tensor:
    """Return pictures (N, ..., W), those where `flips` (N,) says so mirrored left to right."""
    if flips is None:
        return pictures
    return torch.where(flips.view(-1, *[1] * (pictures.dim() - 1)), pictures.flip(-1), pictures)


def crop(pictures: Tensor, boxes: Tensor, out: tuple[int, int], flips: Tensor | None = None) -> Tensor:
    """Return windows of pictures at a size, float32: torchvision's resized_crop, for a whole batch.

    Bytes on the CPU take the kernel for 8-bit pictures, five times as fast, which rounds as PIL does; everything
    else is sampled at once, as a GPU likes it. The two differ by that rounding. A window is never shrunk here, since
    frames are stored at the size at which they are shown.

    Args:
        pictures: (N, C, H, W). boxes: int64 (N, 4) in pixels. out: (height, width). flips: bool (N,): which windows
            are mirrored left to right.
    """
    if pictures.dtype == torch.uint8 and pictures.device.type == "cpu":
        made = torch.empty(len(pictures), pictures.shape[1], *out)
        turned = [False] * len(pictures) if flips is None else flips.tolist()
        for k, ((top, left, height, width), turn) in enumerate(zip(boxes.tolist(), turned, strict=True)):
            shown = pictures[k : k + 1, :, top : top + height, left : left + width]
            if (height, width) != out:
                shown = interpolate(shown, out, mode="bilinear", antialias=True)
            made[k] = (shown.flip(-1) if turn else shown)[0]  # bytes: a quarter of what floats would move
        return made
    lines = []
    for start, length, side, count in ((0, 2, pictures.shape[2], out[0]), (1, 3, pictures.shape[3], out[1])):
        first, extent = boxes[:, start, None], boxes[:, length, None]
        step = torch.arange(count, device=pictures.device) + 0.5
        place = first + torch.minimum((step * extent / count).clamp(min=0.5), extent - 0.5)
        lines.append(place * 2 / side - 1)
    down, across = lines[0], mirror(lines[1], flips)
    grid = torch.stack([across[:, None].expand(-1, out[0], -1), down[:, :, None].expand(-1, -1, out[1])], -1)
    return grid_sample(pictures.to(torch.float32), grid, mode="bilinear", align_corners=False)


@dataclass
class Pixels:
    """Turns stored pictures into what an encoder sees, before standardisation.

    Args:
        augmentation: how. shape: (C, H, W) of the stored pictures.
        scale, offset: real value = stored * scale + offset.
    """

    augmentation: Augmentation
    shape: tuple[int, ...]
    scale: float
    offset: float
    _patterns: dict[torch.device, Tensor] = field(default_factory=dict)

    @property
    def out(self) -> tuple[int, int]:
        """Size of what is shown."""
        size = self.augmentation.crop_size
        return (size, size) if self.augmentation.crop == "random" else (self.shape[1], self.shape[2])

    def show(self, stored: Tensor, boxes: Tensor | None, flips: Tensor | None) -> Tensor:
        """Return pictures (B, T, C, h, w) float32, in stored units.

        Args:
            stored: (B, T, C, H, W). boxes: (B, T or 1, 4). flips: (B, T or 1).
        """
        batch, frames = stored.shape[:2]
        shown, middle = stored.flatten(0, 1), middle_box(self.shape[1:], self.augmentation)  # type: ignore[arg-type]
        if boxes is None and middle is not None:
            boxes = middle.to(stored.device).expand(batch, 1, 4)
        if flips is not None:
            flips = flips.expand(batch, frames).flatten()
        if boxes is None:
            shown = mirror(shown, flips).to(torch.float32)
        else:
            shown = crop(shown, boxes.expand(batch, frames, 4).flatten(0, 1), self.out, flips)
        shown = shown.unflatten(0, (batch, frames))
        if flips is not None and (self.augmentation.negate or self.augmentation.released):
            back = flips.view(batch, frames, 1, 1)
            if self.augmentation.negate:
                shown[:, :, 0] = torch.where(back, -shown[:, :, 0] - 2 * self.offset / self.scale, shown[:, :, 0])
            else:
                shown[:, :, 1] = torch.where(back, shown[:, :, 1].flip(-1), shown[:, :, 1])
        return shown if not self.augmentation.noise else shown + self._pattern(shown)

    def _pattern(self, shown: Tensor) -> Tensor:
        """Return the noise (T, C, h, w) in stored units: one pattern for all samples, as the released code has it."""
        if shown.device not in self._patterns:
            drawn = torch.randn(shown.shape[1:], generator=generator("image noise", 999))
            self._patterns[shown.device] = drawn.to(shown.device) * (self.augmentation.noise / self.scale)
        return self._patterns[shown.device]
