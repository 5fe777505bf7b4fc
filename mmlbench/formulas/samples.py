"""Some samples of a part, for passes of a method's own around an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..method import Batch


def rows(batch: Batch, places: Tensor) -> Batch:
    """Return the samples at some places of a batch, in that order; places: int64 (n,)."""
    return Batch(
        batch.index[places],
        {m: x[places] for m, x in batch.inputs.items()},
        batch.label[places],
        {name: values[places] for name, values in batch.extra.items()},
        {m: lengths[places] for m, lengths in batch.lengths.items()},
        {m: shown[places] for m, shown in batch.shown.items()},
    )


def found_among(batches: Iterable[Batch], wanted: Tensor) -> Iterator[Batch]:
    """Yield what some batches hold of the wanted positions, int64 (n,); a batch that holds none is left out.

    It waits for the device, so it is for the hooks around an epoch, not for a step.
    """
    for batch in batches:
        places = torch.isin(batch.index, wanted).nonzero().flatten()
        if len(places):
            yield rows(batch, places)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the samples of some batches as one; those that are shorter are padded with 0 to the longest."""
    first = batches[0]

    def cat(values: Sequence[Tensor]) -> Tensor:
        if values[0].dim() < 2:
            return torch.cat(list(values))
        longest = max(one.shape[1] for one in values)
        room = [(0, 0) * (one.dim() - 2) + (0, longest - one.shape[1]) for one in values]
        return torch.cat([pad(one, size) if any(size) else one for one, size in zip(values, room, strict=True)])

    return Batch(
        cat([one.index for one in batches]),
        {m: cat([one.inputs[m] for one in batches]) for m in first.inputs},
        torch.cat([one.label for one in batches]),
        {name: torch.cat([one.extra[name] for one in batches]) for name in first.extra},
        {m: torch.cat([one.lengths[m] for one in batches]) for m in first.lengths},
        {m: torch.cat([one.shown[m] for one in batches]) for m in first.shown},
    )
