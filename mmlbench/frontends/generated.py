"""What the generated datasets share: one generator per part, balanced classes, ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..dataset import PARTS, Sample


@dataclass(frozen=True)
class Part:
    """The rows of one part of a generated dataset.

    Args:
        name: 'train', 'val' or 'test'.
        rows: where the part lies in the arrays.
        label: classes, (n,) int64, as balanced as n allows, in random order.
        rng: the generator of this part and of no other.
    """

    name: str
    rows: slice
    label: np.ndarray
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.label)


def draw_parts(counts: Mapping[str, int], classes: int, seed: int) -> list[Part]:
    """Return the parts with their labels drawn, one after the other along the rows.

    Each part has a generator seeded by (seed, place of the part), so that its content depends on nothing else.
    """
    parts, start = [], 0
    for place, name in enumerate(PARTS):
        count = counts.get(name, 0)
        rng = np.random.default_rng([seed, place])
        label = rng.permutation(np.arange(count) % classes)
        parts.append(Part(name, slice(start, start + count), label, rng))
        start += count
    return parts


def samples(parts: Sequence[Part], modalities: int) -> list[Sample]:
    """Return the samples of a split in which row i of every modality belongs together."""
    return [
        Sample(f"{part.name}-{place:05d}", part.name, int(label), (part.rows.start + place,) * modalities)
        for part in parts
        for place, label in enumerate(part.label)
    ]
