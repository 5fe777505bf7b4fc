"""Sound as a picture of its frequencies over time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..modality import THUMB, ModalityType, block_means
from ..registry import register


@register
class Spectrogram(ModalityType):
    """A spectrogram (C, H, W): bands over frames. It is shown as it is stored."""

    ranks: ClassVar[tuple[int, ...]] = (3,)
    axes: ClassVar[str] = "(C, H, W)"
    stored: ClassVar[str] = "float16"

    def outline(self, views: np.ndarray) -> np.ndarray:
        """Return thumbnails."""
        return block_means(views, (THUMB, THUMB))
