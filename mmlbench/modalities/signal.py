"""A waveform or another measurement over time, of one fixed length."""

from __future__ import annotations

from typing import ClassVar

from ..modality import ModalityType
from ..registry import register


@register
class Signal(ModalityType):
    """A signal (C, L): channels over a fixed number of samples in time."""

    ranks: ClassVar[tuple[int, ...]] = (2,)
    axes: ClassVar[str] = "(C, L)"
    stored: ClassVar[str] = "float16"
