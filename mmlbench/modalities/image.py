"""A picture, or the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..modality import THUMB, Augmentation, InputRecipe, Modality, ModalityType, block_means
from ..registry import register

#: Channels that a picture may have.
CHANNELS = (1, 3, 4)


@register
class Image(ModalityType):
    """A picture (C, H, W); the views of a row are the frames of its clip. Recipes crop and mirror it."""

    ranks: ClassVar[tuple[int, ...]] = (3,)
    axes: ClassVar[str] = "(C, H, W)"
    stored: ClassVar[str] = "uint8"
    #: Whether pixels are how far something moves, not how bright it is.
    is_motion: ClassVar[bool] = False

    def frames(self, recipe: InputRecipe) -> int:
        """Return the recipe's `frames`."""
        return recipe.frames

    def input_shape(self, modality: Modality, recipe: InputRecipe) -> tuple[int, ...]:
        """Return the shape of what is cropped."""
        side = recipe.crop_size
        return (modality.shape[0], side, side) if side else modality.shape

    def augmentation(self, modality: Modality, recipe: InputRecipe, others: Sequence[Modality]) -> Augmentation:
        """Return the recipe's crops and flips; a clip beside its optical flow is cropped with it, as one scene."""
        together = recipe.augment_per == "clip"
        scene = together and any(other.type.is_motion for other in others if isinstance(other.type, Image))
        return Augmentation(
            frames=self.frames(recipe),
            pick=recipe.frame_pick,
            crop=recipe.crop,
            crop_size=recipe.crop_size,
            flip=recipe.flip,
            together=together,
            negate=self.is_motion and recipe.flow_flip == "negate_u",
            released=self.is_motion and recipe.flow_flip == "released",
            noise=0.0 if self.is_motion else recipe.image_noise,
            aspect=modality.aspect,
            key="scene" if scene else modality.name,
        )

    def from_array(self, rows: np.ndarray) -> np.ndarray:
        """Return pictures (n, H, W), (n, H, W, C) or (n, C, H, W) as (n, C, H, W)."""
        if rows.ndim == 3:
            return rows[:, None]
        last = rows.ndim == 4 and rows.shape[1] not in CHANNELS and rows.shape[3] in CHANNELS
        return np.moveaxis(rows, -1, 1) if last else rows

    def outline(self, views: np.ndarray) -> np.ndarray:
        """Return thumbnails."""
        return block_means(views, (THUMB, THUMB))
