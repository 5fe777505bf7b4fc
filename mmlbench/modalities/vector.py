"""A vector of features."""

from __future__ import annotations

from typing import ClassVar

from ..modality import PER_CHANNEL, Modality, ModalityType
from ..registry import register

#: Values from which on two vectors that correlate are likely copies of each other.
ENOUGH = 64


@register
class Vector(ModalityType):
    """A vector of features (d,), each standardised by itself, such as the output of another network."""

    ranks: ClassVar[tuple[int, ...]] = (1,)
    axes: ClassVar[str] = "(d,)"
    encoder: ClassVar[str] = "mlp"
    normalise: ClassVar[str] = PER_CHANNEL

    def near(self, modality: Modality) -> bool:
        """Whether there are enough values for a correlation to tell anything."""
        return modality.shape[0] >= ENOUGH
