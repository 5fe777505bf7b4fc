"""Optical flow."""

from __future__ import annotations

from typing import ClassVar

from ..modality import InputRecipe
from ..registry import register
from .image import Image


@register
class Flow(Image):
    """Optical flow (2, H, W): how far each pixel moves to the right and down. A mirrored one changes its sign.

    A view in which nothing moves is no fault, where another one of the clip moves.
    """

    is_motion: ClassVar[bool] = True
    may_be_still: ClassVar[bool] = True

    def frames(self, recipe: InputRecipe) -> int:
        """Return the recipe's `flow_frames`."""
        return recipe.flow_frames
