"""What of a prepared cache may be handed on: nothing, features alone, or all of it.

The licence of the raw data decides it. A person reads the licence and writes down what it allows (`Terms`); nothing
here is read out of a licence's words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which would have `mmlbench list` import numpy
    from ..modality import Modality

#: Types whose values are features. Of every other one media can be had back: a picture, a sound, a text by its ids.
#: A modality type can't say this of itself yet, and one of a plug-in counts as media.
FEATURE_KINDS = frozenset({"vector", "sequence"})


class Sharing(StrEnum):
    """How much of a prepared cache may be handed on."""

    NONE = "none"  # nothing: the licence forbids it, or nobody has read one that allows it
    FEATURES = "features"  # arrays of features, from which no picture, sound or text can be had back
    ALL = "all"  # every array


@dataclass(frozen=True)
class Terms:
    """What the licence of a dataset allows.

    Attributes:
        sharing: how much may be handed on. source: where that was read, '' where nobody has.
        media: modalities that are media although their type says features, such as one known vector a word.
    """

    sharing: Sharing = Sharing.NONE
    source: str = ""
    media: tuple[str, ...] = ()


def media_in(modalities: Iterable[Modality], terms: Terms) -> list[Modality]:
    """Return the modalities from which a picture, a sound or a text can be had back."""
    return [one for one in modalities if one.kind not in FEATURE_KINDS or one.name in terms.media]
