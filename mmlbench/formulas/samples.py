"""Some samples of a part, for passes of a method's own around an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

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
