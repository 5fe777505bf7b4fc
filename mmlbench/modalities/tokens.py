"""Text, or anything else that is written in ids of a vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..modality import EMPTY, NONE, Modality, ModalityType, real_steps
from ..registry import register

if TYPE_CHECKING:
    from torch import Generator, Tensor


@register
class Tokens(ModalityType):
    """Ids of a vocabulary (L,) with a length of its own, at most L; id 0 is padding. Encoders get them as int64.

    Noise of a strength s replaces each token, with probability min(s, 1), by one that is drawn uniformly. A missing
    text is an empty one: of length 0. Texts are compared byte for byte alone, not by likeness.
    """

    ranks: ClassVar[tuple[int, ...]] = (1,)
    axes: ClassVar[str] = "(L,)"
    encoder: ClassVar[str] = "gru"
    normalise: ClassVar[str] = NONE
    normalisations: ClassVar[tuple[str, ...]] = (NONE,)
    has_length: ClassVar[bool] = True
    ids: ClassVar[bool] = True
    stored: ClassVar[str] = "int16"
    missing: ClassVar[str] = EMPTY

    def wrong_value(
        self, modality: Modality, views: np.ndarray, lengths: np.ndarray | None
    ) -> tuple[int, str] | None:
        """Return the first row with an id that its vocabulary lacks, or that is padding within the length."""
        if views.dtype.kind not in "iu":
            return 0, f"is {views.dtype}: ids are integers"
        assert lengths is not None
        real = real_steps(views.shape[-1], lengths)
        bad = real & ((views <= 0) | (views >= modality.vocabulary))
        if bad.any():
            row = int(bad.reshape(len(views), -1).any(axis=1).argmax())
            found = int(views[row][bad[row]][0])
            known = f"ids are 1 to {modality.vocabulary - 1}"
            if found == 0:
                view = int(bad[row].any(axis=1).argmax())
                return row, f"has the id 0 within its length of {int(lengths[row, view])}: 0 is padding, {known}"
            return row, f"has the id {found}: {known}, 0 is padding"
        return None

    def add_noise(self, modality: Modality, values: Tensor, strength: float, rng: Generator) -> Tensor:
        """Return ids (B, L) of which some are replaced; padding may be too, and is masked."""
        import torch

        hit = torch.rand(values.shape, generator=rng) < strength
        drawn = torch.randint(1, modality.vocabulary, values.shape, generator=rng)
        return torch.where(hit.to(values.device), drawn.to(values.device), values)

    def near(self, modality: Modality) -> bool:
        """Ids that are near each other mean nothing."""
        return False

    def blank(self, views: np.ndarray) -> np.ndarray:
        """Return that none is: a text of one repeated letter is a text, and an empty one is refused."""
        return np.zeros(len(views), dtype=bool)
