"""Features over time, of varying length."""

from __future__ import annotations

from typing import ClassVar

from ..modality import PER_CHANNEL, ModalityType
from ..registry import register


@register
class Sequence(ModalityType):
    """A sequence of feature vectors (T, d) with a length of its own, at most T. Each feature is standardised.

    A missing one has the train part's mean step in each of its steps.
    """

    ranks: ClassVar[tuple[int, ...]] = (2,)
    axes: ClassVar[str] = "(T, d)"
    encoder: ClassVar[str] = "gru"
    channel_axis: ClassVar[int] = -1
    normalise: ClassVar[str] = PER_CHANNEL
    has_length: ClassVar[bool] = True
