"""What a method's sampler chooses for an epoch: checked, kept in checkpoints, and applied to batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import ConfigError, RunError
from ..method import Batch, EpochContext, Method, Sampling
from ..storage.words import plural
from ..study.recipe import Recipe


def samples_itself(method: Method) -> bool:
    """Tell whether a method chooses its samples."""
    return type(method).sample is not Method.sample


def check_sampling(method: Method, recipe: Recipe) -> None:
    """Refuse `sampling` of a recipe where a method chooses its samples, so that nothing would read it.

    Raises:
        ConfigError: naming the method.
    """
    if recipe.sampling != "shuffle" and samples_itself(method):
        what = f"{method.name} chooses the samples of an epoch itself, so `sampling: {recipe.sampling}` has no effect"
        raise ConfigError(what, "Leave sampling out, or this method")


def choose(method: Method, context: EpochContext, samples: int, device: torch.device) -> Sampling | None:
    """Ask a method for the samples of an epoch; return them on a device.

    Args:
        samples: of the train part.

    Raises:
        RunError: they are no positions in it, fewer than two, or masks of another form.
    """
    found = method.sample(context)
    if found is None:
        return None
    if not isinstance(found, Sampling):
        _refuse(method, f"it returned {type(found).__name__}", "Return a Sampling, or None for each sample once")
    order = found.order
    if not isinstance(order, Tensor) or order.dim() != 1 or order.dtype not in (torch.int64, torch.int32):
        form = f"{order.dtype} {tuple(order.shape)}" if isinstance(order, Tensor) else type(order).__name__
        _refuse(method, f"its order is {form}", "Return positions in the train part, int64 (n,)")
    if len(order) < 2:
        _refuse(method, f"it shows {plural(len(order), 'sample')}", "Show two at least: batch norm needs them")
    low, high = int(order.min()), int(order.max())
    if low < 0 or high >= samples:
        _refuse(method, f"it shows the positions {low} to {high} of {samples}", f"Positions are 0 to {samples - 1}")
    for name, mask in found.shown.items():
        if name not in method.modalities:
            _refuse(method, f"it masks {name!r}", f"Name a modality: {', '.join(method.modalities)}")
        if not isinstance(mask, Tensor) or mask.shape != order.shape or mask.dtype != torch.bool:
            form = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            _refuse(method, f"its mask of {name!r} is {form}", f"Return one bool for each place, ({len(order)},)")
    if set(found.shown) == set(method.modalities):
        bare = int((~torch.stack([mask.cpu() for mask in found.shown.values()]).any(0)).sum())
        if bare:
            _refuse(method, f"it shows {plural(bare, 'sample')} without any modality", "Leave them out of its order")
    return Sampling(order.to(device, torch.int64), {name: mask.to(device) for name, mask in found.shown.items()})


def _refuse(method: Method, what: str, fix: str) -> NoReturn:
    raise RunError(f"{method.name} can't sample an epoch: {what}", fix)


def masked(batch: Batch, sampling: Sampling, start: int, stop: int) -> Batch:
    """Return the batch at some places of an epoch's order, with the inputs that are not shown at zero."""
    if not sampling.shown:
        return batch
    shown = {name: mask[start:stop] for name, mask in sampling.shown.items()}
    return replace(batch.scaled(shown), shown=shown)


def plain(sampling: Sampling | None) -> dict[str, Any] | None:
    """Return it as a checkpoint keeps it."""
    return None if sampling is None else {"order": sampling.order, "shown": dict(sampling.shown)}


def restored(kept: Mapping[str, Any] | None) -> Sampling | None:
    """Undo `plain`."""
    return None if kept is None else Sampling(kept["order"], kept["shown"])
